"""Names: what a model may be called, and the Kubernetes names derived from it.

A model's name is a DNS-1123 subdomain of at most 63 characters, so that it may hold dots (`llama-3.1-8b`) and still
fits into labels, hosts and paths. A Kubernetes Service needs a DNS-1035 label: no dots, a letter first. Replacing dots
by hyphens would give two models (`a.b`, `a-b`) one name, so whatever had to be changed carries a piece of the digest
of what it was.
"""

import re

from llmops_core.fingerprint import digest_of

MODEL_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
MODEL_NAME_LENGTH = 63
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DIGEST_CHARACTERS = 8


def is_model_name(text: str) -> bool:
    return len(text) <= MODEL_NAME_LENGTH and re.fullmatch(MODEL_NAME_PATTERN, text) is not None


def why_no_model(folder: str) -> str:
    """Why a folder under models/ can be no model's, in characters that can be shown everywhere; empty if it can."""
    if is_model_name(folder):
        return ""
    return f"models/{shown(folder)} is no name of a model; rename the folder"


def shown(name: str) -> str:
    """A name of a file as plain characters: it may hold bytes that are no text."""
    return name if name.isascii() and name.isprintable() else ascii(name)[1:-1]


def kubernetes_name(*parts: str, length: int = 63) -> str:
    """A DNS-1035 label of at most `length` characters for these parts: the same for the same, another for others.

    `kubernetes_name("atlas-qa")` is `atlas-qa`; what does not fit as it stands ends in eight digits of its digest.
    """
    joined = "-".join(parts)
    if len(parts) == 1 and len(joined) <= length and _LABEL.fullmatch(joined) and not _ends_like_digest(joined):
        return joined
    digest = digest_of(list(parts))[:_DIGEST_CHARACTERS]
    safe = re.sub(r"[^a-z0-9]+", "-", joined.lower()).strip("-")
    if not safe[:1].isalpha():
        safe = f"m-{safe}".rstrip("-")
    return f"{safe[: length - _DIGEST_CHARACTERS - 1].rstrip('-')}-{digest}"


def _ends_like_digest(label: str) -> bool:
    """Whether a plain name could be taken for a derived one; then it is derived as well, so that none collide."""
    return re.search(r"-[0-9a-f]{8}$", label) is not None
