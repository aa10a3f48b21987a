"""The real ssh-keygen: keys that must not be used, times, purposes, and never a question on a terminal."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, TransientError
from resources import signatures
from resources.signatures import SshSignatures

PURPOSE = "llmops-approval"
IDENTITY = "ada@example.com"


@pytest.fixture
def door() -> SshSignatures:
    return SshSignatures()


@pytest.fixture
def key(door: SshSignatures, tmp_path: Path) -> Path:
    door.make_key(tmp_path / "ada", IDENTITY)
    return tmp_path / "ada"


def line(key: Path, options: str = "", identity: str = IDENTITY) -> str:
    public = " ".join(key.with_name(f"{key.name}.pub").read_text().split()[:2])
    return " ".join(part for part in (identity, options, public) if part) + "\n"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('valid-before="20200101Z"', "has expired"),
        ('valid-after="20990101Z"', "not valid yet"),
        ('namespaces="git"', "may not sign for llmops-approval"),
    ],
)
def test_a_key_is_limited_in_time_and_purpose(door: SshSignatures, key: Path, options: str, reason: str) -> None:
    signature = door.sign(b"text", key, PURPOSE)
    with pytest.raises(IntegrityError, match=reason):
        door.verify(b"text", signature, line(key, options), PURPOSE)


def test_an_expired_key_still_proves_what_it_signed_while_valid(door: SshSignatures, key: Path) -> None:
    signature = door.sign(b"text", key, PURPOSE)
    signers = line(key, 'valid-before="20200101Z"')
    assert door.verify(b"text", signature, signers, PURPOSE, datetime(2019, 6, 1, tzinfo=UTC)) == IDENTITY
    with pytest.raises(ValueError, match="time zone"):
        door.verify(b"text", signature, signers, PURPOSE, datetime(2019, 6, 1))


@pytest.mark.parametrize("identity", ["*@example.com", "ada@example.com,eve@example.com", "ad?@example.com"])
def test_a_key_shared_by_a_pattern_is_nobody_in_particular(door: SshSignatures, key: Path, identity: str) -> None:
    with pytest.raises(IntegrityError, match="cannot be traced to a person"):
        door.verify(b"text", door.sign(b"text", key, PURPOSE), line(key, identity=identity), PURPOSE)


def test_a_bad_line_does_not_let_others_in_nor_keep_them_out(door: SshSignatures, key: Path) -> None:
    signature = door.sign(b"text", key, PURPOSE)
    assert door.verify(b"text", signature, f"garbage line\n# note\n{line(key)}", PURPOSE) == IDENTITY
    with pytest.raises(IntegrityError, match="no allowed signer"):
        door.verify(b"text", signature, "garbage line\n", PURPOSE)


def test_a_missing_list_of_signers_is_an_error_of_the_configuration(door: SshSignatures, key: Path) -> None:
    with pytest.raises(InputError, match="nobody is allowed to sign yet"):
        door.verify(b"text", door.sign(b"text", key, PURPOSE), key.with_name("nowhere"), PURPOSE)


def test_a_passphrase_is_an_error_and_never_a_question(door: SshSignatures, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", str(path)], check=True)
    started = time.monotonic()
    for use in (lambda: door.sign(b"text", path, PURPOSE), lambda: door.make_key(path, "c")):
        with pytest.raises(InputError, match="a key with a passphrase"):
            use()
    assert time.monotonic() - started < 5


def test_a_key_that_others_can_read_is_refused(door: SshSignatures, key: Path) -> None:
    key.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        door.sign(b"text", key, PURPOSE)


def test_a_file_that_is_no_key_is_refused(door: SshSignatures, tmp_path: Path) -> None:
    path = tmp_path / "nonsense"
    path.write_text("nonsense")
    path.chmod(0o600)
    with pytest.raises(InputError, match="the key cannot be used"):
        door.sign(b"text", path, PURPOSE)


def test_a_public_file_that_does_not_fit_is_mended_from_the_private_key(door: SshSignatures, key: Path) -> None:
    public = key.with_name("ada.pub")
    right = public.read_text()
    public.write_text("ssh-ed25519 AAAA wrong\n")
    assert door.make_key(key, IDENTITY) == right.strip()
    assert public.read_text() == right


def test_programs_that_make_the_same_key_at_once_agree(door: SshSignatures, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: door.make_key(tmp_path / "keys" / "k", "c"), range(8)))
    assert len(made) == 1
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["k", "k.pub"]


def test_no_agent_is_asked(door: SshSignatures, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(key.with_name("no-agent")))
    assert door.verify(b"text", door.sign(b"text", key, PURPOSE), line(key), PURPOSE) == IDENTITY


def test_a_machine_without_ssh_keygen_says_what_to_install(
    door: SshSignatures, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLacks, match="openssh-client"):
        door.sign(b"text", key, PURPOSE)


def test_a_program_that_hangs_is_ended(
    door: SshSignatures, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "ssh-keygen"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(signatures, "_LIMIT_SECONDS", 0.3)
    with pytest.raises(TransientError, match="did not end"):
        door.sign(b"text", key, PURPOSE)


def test_an_unknown_complaint_is_handed_on_in_its_own_words(
    door: SshSignatures, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "bin" / "ssh-keygen"
    odd.parent.mkdir()
    odd.write_text("#!/bin/sh\necho the moon is full >&2\nexit 3\n")
    odd.chmod(0o755)
    signature = door.sign(b"text", key, PURPOSE)
    signers = line(key)
    monkeypatch.setenv("PATH", f"{odd.parent}:{os.environ['PATH']}")
    with pytest.raises(IntegrityError, match="the moon is full"):
        door.verify(b"text", signature, signers, PURPOSE)
    odd.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(IntegrityError, match="said nothing"):
        door.verify(b"text", signature, signers, PURPOSE)


@pytest.mark.parametrize("namespace", ["", "-n", "a b", "A", "x" * 64, "a\n"])
def test_an_odd_namespace_never_reaches_the_program(door: SshSignatures, key: Path, namespace: str) -> None:
    with pytest.raises(ValueError, match="no namespace"):
        door.sign(b"text", key, namespace)
