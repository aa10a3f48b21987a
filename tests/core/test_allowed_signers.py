"""allowed_signers: what ssh-keygen would skip in silence is named, what it reads is not."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.allowed_signers import KEY_TYPES, identities_of, keys_of, problems_of_signers

FILE = "config/approvers/allowed_signers"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKeUWrSqbWi/rmuOnfbPpyBSTkA4ZH+VU2rMhJfYW3FE"
ECDSA = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGm21fl/eyvFnL4Z6mnyLL+wps7KvcKHHZzg0eV"
    "dATlJsfbBkh8mvv2nSSc676QFjZbwuf2zm2lu9CGJB4PlVzA="
)
GOOD = [
    "  # a comment",
    f"ada@example.com {KEY}",
    f"ada@example.com,grace@example.com {KEY} of Ada",
    f'"ada lovelace,*@example.com" {KEY}',
    f"  ada@example.com\t{KEY}\r",
    f"ada@example.com\tssh-ed25519\t{KEY.split()[1]}",
    f'ada@example.com namespaces="llmops-approval" {KEY}',
    f'ada@example.com cert-authority,Namespaces="a,b c",valid-after="20260101",valid-before="20270101120000Z" {ECDSA}',
]
BAD = {
    "nobody": KEY,
    "one word": "ada@example.com",
    "no key": "ada@example.com ssh-ed25519",
    "unknown type": f"ada@example.com ssh-ed448 {KEY.split()[1]}",
    "unknown option": f'ada@example.com purpose="approval" {KEY}',
    "no quotes": f"ada@example.com namespaces=llmops-approval {KEY}",
    "no time": f'ada@example.com valid-after="soon" {KEY}',
    "cut off": f"ada@example.com {KEY[:-8]}",
    "no base64": f"ada@example.com {KEY[:-1]}!",
    "another type": f"ada@example.com ssh-rsa {KEY.split()[1]}",
    "type alone": "ada@example.com ssh-rsa AAAAB3NzaC1yc2E=",
}


def read_by_ssh_keygen(line: str, folder: Path) -> bool:
    """Whether ssh-keygen finds no fault with the line when it looks for who holds another key."""
    (folder / "signers").write_text(f"{line}\n")
    key, signature = folder / "key", folder / "text.sig"
    if not signature.exists():
        (folder / "text").write_text("x")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "test", folder / "text"], check=True)
    command = ["ssh-keygen", "-Y", "find-principals", "-f", folder / "signers", "-s", signature]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    return f"{folder}/signers:1" not in said


@pytest.mark.parametrize("line", GOOD)
def test_a_line_that_ssh_keygen_reads_was_refused(line: str, tmp_path: Path) -> None:
    assert problems_of_signers(line.encode(), FILE) == []
    assert read_by_ssh_keygen(line, tmp_path)


@pytest.mark.parametrize("name", BAD)
def test_a_line_that_ssh_keygen_skips_was_accepted(name: str, tmp_path: Path) -> None:
    (problem,) = problems_of_signers(f"# who\n\n{BAD[name]}\nada@example.com {KEY}\n".encode(), FILE)
    assert problem.file == FILE and problem.message.startswith("line 3: ")
    assert not read_by_ssh_keygen(BAD[name], tmp_path)


def test_a_private_key_pasted_into_the_file_was_shown() -> None:
    secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"
    problems = problems_of_signers(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n".encode(), FILE)
    assert len(problems) == 2 and not any(secret in str(problem) for problem in problems)


def test_a_key_that_counts_was_not_found_or_one_that_does_not_was() -> None:
    kind, key = KEY.split()[:2]
    text = "\n".join(["# who", *GOOD, *BAD.values(), ""])
    assert keys_of(text) == list(dict.fromkeys(" ".join(words) for words in _keys(GOOD)))
    assert f"{kind} {key}" in keys_of(text) and keys_of("") == []


def _keys(lines: Iterable[str]) -> Iterator[list[str]]:
    """The key of a line is its last two words, but for comments."""
    for words in (line.split() for line in lines if "#" not in line):
        first = next(number for number, word in enumerate(words) if word in KEY_TYPES)
        yield words[first : first + 2]


@given(st.binary())
def test_no_content_crashes(content: bytes) -> None:
    assert all(problem.found and problem.expected and problem.message for problem in problems_of_signers(content, FILE))


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (f"ada@example.com {KEY}", {"ada@example.com"}),
        (f'ada@example.com namespaces="llmops-approval,git" {KEY}', {"ada@example.com"}),
        (f'ada@example.com namespaces="llmops-*" {KEY}', {"ada@example.com"}),
        (f'ada@example.com namespaces="git" {KEY}', set[str]()),
        (f"ada@example.com,grace@example.com {KEY}", set[str]()),
        (f"*@example.com {KEY}", set[str]()),
        (f"# ada@example.com {KEY}", set[str]()),
        (f"ada@example.com {KEY[:-8]}", set[str]()),
    ],
)
def test_a_line_that_lets_nobody_approve_named_an_approver(line: str, names: set[str]) -> None:
    assert identities_of(f"{line}\n", "llmops-approval") == names
