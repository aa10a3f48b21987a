"""Messages that claim to come from a Git host: nothing unproven is believed, nothing proven is turned down."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core import webhook
from llmops_core.webhook import Heard, fault_of_secret, hear

SECRET = "It's a Secret to Everybody"
SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()
NOW = 1_790_000_000.0
PUSH = {"ref": "refs/heads/main", "object_kind": "push", "after": "1" * 40}


def as_bytes(document: object) -> bytes:
    return json.dumps(document).encode()


def github(body: bytes, event: str = "push") -> dict[str, str]:
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {"x-github-event": event, "x-hub-signature-256": f"sha256={signature}"}


def gitlab(body: bytes, at: float = NOW, identity: str = "msg_1") -> dict[str, str]:
    content = f"{identity}.{int(at)}.".encode() + body
    signature = base64.b64encode(hmac.new(b"k" * 32, content, hashlib.sha256).digest()).decode()
    sent = {"webhook-id": identity, "webhook-timestamp": str(int(at)), "webhook-signature": f"v1,{signature}"}
    return sent | {"x-gitlab-event": "Push Hook"}


def heard(host, headers, body: bytes, secret: str | None = None, watched=("main",)) -> Heard:
    return hear(host, secret or (SECRET if host == "github" else SIGNING), headers, body, watched, NOW)


def flipped(text: bytes, bit: int) -> bytes:
    place = bit % (len(text) * 8)
    return text[: place // 8] + bytes([text[place // 8] ^ (1 << place % 8)]) + text[place // 8 + 1 :]


def test_a_secret_with_letters_beyond_ascii_crashed_instead_of_being_named() -> None:
    assert "no base64" in fault_of_secret("gitlab", "whsec_é") and not fault_of_secret("gitlab", "é")
    for host in ("github", "gitlab"):
        assert "UTF-8" in fault_of_secret(host, "\udce9") and heard(host, {}, b"{}", "\udce9").status == 401


def test_what_github_itself_publishes_as_an_example_was_refused() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries; the body is no JSON."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert heard("github", {"x-hub-signature-256": signature}, b"Hello, World!").status == 400


@pytest.mark.parametrize(("host", "signed"), [("github", github), ("gitlab", gitlab)])
def test_a_push_to_a_watched_branch_was_not_acted_on(host, signed) -> None:
    body = as_bytes(PUSH)
    assert heard(host, signed(body), body) == Heard(202, "the repository is looked at now", "main")
    assert heard(host, signed(body), body, watched=("HEAD",)).branch == "main"


@pytest.mark.parametrize(
    "document",
    [
        {**PUSH, "ref": "refs/heads/feature/main"},
        {**PUSH, "ref": "refs/tags/main"},
        {**PUSH, "ref": "main"},
        {**PUSH, "ref": 1},
        {"object_kind": "push"},
    ],
)
def test_another_branch_or_a_tag_was_acted_on(document) -> None:
    body = as_bytes(document)
    for host, signed in (("github", github), ("gitlab", gitlab)):
        found = heard(host, signed(body), body)
        assert (found.status, found.branch) == (202, "") and "nothing to do" in found.text


def test_other_events_were_acted_on_or_a_ping_turned_down() -> None:
    body = as_bytes(PUSH)
    assert heard("github", github(body, "issues"), body).branch == ""
    assert heard("github", github(body, "ping"), body) == Heard(200, "the signature is right")
    other = as_bytes({**PUSH, "object_kind": "tag_push"})
    assert heard("gitlab", gitlab(other), other).branch == ""


@given(st.integers(0, 10**6))
def test_a_flipped_bit_of_the_body_passed(bit: int) -> None:
    body = as_bytes(PUSH)
    assert heard("github", github(body), flipped(body, bit)).status == 401
    assert heard("gitlab", gitlab(body), flipped(body, bit)).status == 401


@given(st.integers(0, 10**6))
def test_a_flipped_bit_of_what_proves_it_passed(bit: int) -> None:
    body = as_bytes(PUSH)
    for host, headers, proofs in (
        ("github", github(body), ["x-hub-signature-256"]),
        ("gitlab", gitlab(body), ["webhook-id", "webhook-timestamp", "webhook-signature"]),
    ):
        for name in proofs:
            forged = flipped(headers[name].encode(), bit).decode("latin-1")
            assert heard(host, {**headers, name: forged}, body).status == 401
    assert heard("gitlab", {"x-gitlab-token": SECRET}, body, secret=SECRET).status == 202
    forged = flipped(SECRET.encode(), bit).decode("latin-1")
    assert heard("gitlab", {"x-gitlab-token": forged}, body, secret=SECRET).status == 401


@given(st.dictionaries(st.sampled_from([*github(b""), *gitlab(b""), "x-gitlab-token"]), st.text()), st.binary())
def test_a_message_without_the_secret_passed_or_crashed(headers, body) -> None:
    for host, secret in (("github", SECRET), ("gitlab", SIGNING), ("gitlab", SECRET)):
        assert heard(host, headers, body, secret=secret).status == 401


@given(st.one_of(st.binary(), st.recursive(st.none() | st.text(), st.lists).map(as_bytes)))
def test_a_proven_body_of_any_kind_crashed_or_was_acted_on(body: bytes) -> None:
    assert heard("github", github(body), body).status == 400


def test_a_body_nested_without_end_crashed() -> None:
    body = b"[" * 200_000
    assert heard("github", github(body), body).status == 400


@pytest.mark.parametrize(("seconds", "status"), [(299, 202), (301, 401), (-299, 202), (-301, 401), (86400, 401)])
def test_an_old_message_passed_when_it_was_sent_again(seconds: int, status: int) -> None:
    body = as_bytes(PUSH)
    assert heard("gitlab", gitlab(body, at=NOW - seconds), body).status == status


def test_a_second_signature_of_a_host_that_changes_its_key_was_not_looked_at() -> None:
    body = as_bytes(PUSH)
    headers = gitlab(body)
    both = f"v1,{base64.b64encode(b'o' * 32).decode()} {headers['webhook-signature']}"
    assert heard("gitlab", {**headers, "webhook-signature": both}, body).status == 202


def test_a_plain_token_passed_where_signatures_are_demanded() -> None:
    body = as_bytes(PUSH)
    assert heard("gitlab", {"x-gitlab-token": SIGNING}, body).status == 401


@pytest.mark.parametrize("host", ["github", "gitlab"])
def test_an_empty_secret_let_everybody_in(host) -> None:
    body = as_bytes(PUSH)
    signature = hmac.new(b"", body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "push", "x-hub-signature-256": f"sha256={signature}", "x-gitlab-token": ""}
    assert hear(host, "", headers, body, ("main",), NOW).status == 401
    assert "empty" in fault_of_secret(host, "")
    assert fault_of_secret(host, SECRET) == ""


@pytest.mark.parametrize("token", ["whsec_", "whsec_not base64", "whsec_abc"])
def test_a_damaged_signing_token_was_taken_for_a_key(token: str) -> None:
    assert "signing token" in fault_of_secret("gitlab", token) and fault_of_secret("gitlab", SIGNING) == ""
    assert hear("gitlab", token, {"x-gitlab-token": token}, b"{}", ("main",), NOW).status == 401


def test_a_comparison_ended_at_the_first_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every proof goes through the comparison of constant time, with values of one length."""
    seen: list[tuple[int, int]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(webhook.hmac, "compare_digest", lambda a, b: seen.append((len(a), len(b))) or real(a, b))
    body = as_bytes(PUSH)
    heard("github", github(body + b" "), body)
    heard("gitlab", gitlab(body + b" "), body)
    heard("gitlab", {"x-gitlab-token": "short"}, body, secret=SECRET)
    assert len(seen) == 3 and all(left == right for left, right in seen)
