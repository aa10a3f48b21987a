"""Which messages of a Git host to believe, and which of them make a look at the repository due.

A message proves with a secret that the host sent it, before anything of it is read:

- GitHub signs the body: `X-Hub-Signature-256: sha256=<hex of HMAC-SHA256>`.
- GitLab signs `<id>.<timestamp>.<body>` as Standard Webhooks (https://www.standardwebhooks.com) do, when the hook has a
  signing token (`whsec_` and the key in base64): `webhook-signature: v1,<base64 of HMAC-SHA256>`, several parted by
  blanks. A message whose timestamp is more than five minutes off is refused: it may be an old one, sent again.
- GitLab sends a plain secret token back as `X-Gitlab-Token`. Which of the two holds is told by the secret, never by the
  message.

All comparisons take the same time wherever the first difference is. A message that comes twice asks twice for the same
look, which does no harm.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Host = Literal["github", "gitlab"]

SIGNING_TOKEN = "whsec_"  # noqa: S105 (a prefix, no secret)
TOLERANCE_SECONDS = 300.0
MOST_SIGNATURES = 5  # a host that changes its key sends two
BRANCHES = "refs/heads/"


@dataclass(frozen=True)
class Heard:
    """The answer to a message: an HTTP status and a sentence. `branch` is the watched one that was pushed, if any."""

    status: int
    text: str
    branch: str = ""


def fault_of_secret(host: Host, secret: str) -> str:
    """Why this can be no secret of this host; empty when it can."""
    if not secret:
        return "it is empty"
    if not _is_text(secret):
        return "it is no text in UTF-8"
    if host == "gitlab" and secret.startswith(SIGNING_TOKEN) and not _signing_key(secret):
        return f"after {SIGNING_TOKEN} it is no base64; copy the signing token again"
    return ""


def hear(
    host: Host, secret: str, headers: Mapping[str, str], body: bytes, watched: Collection[str], now: float
) -> Heard:
    """What to answer and what to do. Header names are in lower case; `now` is in Unix seconds.

    `watched` holds names of branches; HEAD in it stands for any, since it follows whatever is checked out.
    """
    if fault_of_secret(host, secret) or not _PROOFS[host](secret, headers, body, now):
        return Heard(401, "the signature is missing or wrong")
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return Heard(400, "the body is no JSON: let the webhook send application/json")
    if not isinstance(document, dict):
        return Heard(400, "the body is no JSON object")
    message = cast(dict[str, Any], document)
    event = headers.get("x-github-event", "") if host == "github" else message.get("object_kind")
    if event == "ping":
        return Heard(200, "the signature is right")
    reference = message.get("ref")
    if event != "push" or not isinstance(reference, str) or not reference.startswith(BRANCHES):
        return Heard(202, "nothing to do: only pushes to branches are acted on")
    branch = reference.removeprefix(BRANCHES)
    if branch not in watched and "HEAD" not in watched:
        return Heard(202, "nothing to do: this branch is not watched")
    return Heard(202, "the repository is looked at now", branch)


def _signed_by_github(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return _same(expected, headers.get("x-hub-signature-256", ""))


def _proven_by_gitlab(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    if secret.startswith(SIGNING_TOKEN):
        return _signed_by_gitlab(secret, headers, body, now)
    token = headers.get("x-gitlab-token", "")
    # of equal length, so that the time does not tell the length of the secret either
    return _same(hashlib.sha256(secret.encode()).hexdigest(), hashlib.sha256(token.encode()).hexdigest())


def _signed_by_gitlab(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    identity, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    recent = sent.isascii() and sent.isdigit() and len(sent) < 12 and abs(now - int(sent)) <= TOLERANCE_SECONDS
    content = f"{identity}.{sent}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(_signing_key(secret), content, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split(" ")[:MOST_SIGNATURES]
    matches = [_same(expected, one) for one in given]  # all of them, whichever it is
    return recent and any(matches)


def _signing_key(secret: str) -> bytes:
    """The key of a signing token; empty when it is none."""
    try:
        return base64.b64decode(secret.removeprefix(SIGNING_TOKEN), validate=True)
    except ValueError:  # which binascii.Error is, and what stands for letters beyond ASCII
        return b""


def _is_text(secret: str) -> bool:
    """A variable's bytes that are no UTF-8 come as lone surrogates, which cannot be signed with."""
    try:
        secret.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same(expected: str, given: str) -> bool:
    """Compared in constant time; as bytes, because text beyond ASCII is refused there with an exception."""
    return hmac.compare_digest(expected.encode(), given.encode())


_PROOFS: dict[Host, Callable[[str, Mapping[str, str], bytes, float], bool]] = {
    "github": _signed_by_github,
    "gitlab": _proven_by_gitlab,
}
