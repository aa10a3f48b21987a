"""What a registered version is, in digests: the part of a registry entry that can be signed and checked again.

A registry is a store that its administrators can edit. So every version carries the facts of its origin as tags, plus
a signature over exactly these facts; whoever reads an entry later recomputes the statement from what is really there
(the bytes, the commit, the reports) and compares. Two registrations with the same IDENTITY are the same version,
however often they are tried and from whichever revision; a new semantic version or card has another fingerprint.
"""

from collections.abc import Mapping
from typing import Annotated

from llmops_core.errors import IntegrityError
from llmops_core.fields import ModelName, Strict, Text, Version
from llmops_core.fingerprint import canonical_json

VERSION_NAMESPACE = "llmops-version"  # of the signature: a signed approval can never pass for a signed version
TAG_PREFIX = "llmops."
SIGNATURE_TAG = "llmops.signature"
IDENTITY = ("weights_digest", "evaluation_digest", "fingerprint")

Digest = Annotated[str, Text(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits", 64)]
Revision = Annotated[str, Text(r"[0-9a-f]{40}|[0-9a-f]{64}", "a full Git commit id", 64)]
DataHash = Annotated[str, Text(r"[0-9a-f]{32}(\.dir)?", "an MD5 as DVC writes it", 36)]


class VersionFacts(Strict):
    """The origin of one version. Digests are SHA-256; `data_hash` is DVC's MD5 of the data as the commit names it."""

    model: ModelName
    semver: Version
    revision: Revision
    data_digest: Digest
    data_hash: DataHash
    base_digest: Digest
    weights_digest: Digest
    evaluation_digest: Digest
    fingerprint: Digest

    def statement(self) -> bytes:
        """The bytes that are signed under VERSION_NAMESPACE: equal exactly when the facts are."""
        return canonical_json({"kind": "llmops.version/1", **self.model_dump()})

    def tags(self) -> dict[str, str]:
        """{registry tag: value} of every fact but the model's name, which is the entry's own."""
        return {f"{TAG_PREFIX}{name}": str(value) for name, value in self.model_dump(exclude={"model"}).items()}

    @classmethod
    def from_tags(cls, model: str, tags: Mapping[str, str]) -> "VersionFacts":
        """The facts that an entry claims. Raises IntegrityError where it does not make the claims of a version."""
        claims = {name: tags.get(f"{TAG_PREFIX}{name}") for name in cls.model_fields if name != "model"}
        try:
            return cls.model_validate({"model": model, **claims})
        except ValueError as error:
            raise IntegrityError(f"the registry's tags of a version of {model} are no facts: {error}") from error


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """One sentence per expected tag that is missing or says something else; other tags are nobody's claim."""
    return [
        f"{tag} is {found[tag]!r}, expected {value!r}" if tag in found else f"{tag} is missing, expected {value!r}"
        for tag, value in sorted(expected.items())
        if found.get(tag) != value
    ]
