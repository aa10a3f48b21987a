"""Facts: what happened, in order, never changed. All state of the platform is a fold over them.

Each fact carries the digest of the one before it, so that editing, dropping or reordering any of them breaks the chain
from there on. The chain alone does not stop someone who can rewrite the whole store; approvals are signed over the
same digests with keys that the store does not hold, and the registry's tags repeat them (see lineage.py).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from llmops_core.fingerprint import digest_of

Kind = Literal[
    "requested",  # a release of this fingerprint is asked for; the body numbers the request
    "retired",  # the model's folder was removed, or a person ended its production
    "pinned",  # a run reads this revision and no other
    "intended",  # a side effect is about to happen
    "produced",  # an asset exists for a fingerprint; the body names its digest and its inputs
    "ticked",  # one step of a canary: state, counts, decision
    "approved",  # a signed statement by a person (its decision may also be "refuse")
    "refused",  # a gate said no, or a stage waits; the body says why
    "spent",  # an attempt of a job ended; the body says how, how long it ran and what it cost
    "switched",  # an environment's traffic now goes to this deployment
]

GENESIS = "0" * 64


class Fact(BaseModel):
    """One line of the ledger. `at` is an aware UTC time in ISO 8601; `digest` covers every other field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int
    at: str
    kind: Kind
    model: str
    subject: str
    fingerprint: str
    body: dict[str, Any]
    previous: str
    digest: str = ""

    def sealed(self) -> "Fact":
        return self.model_copy(update={"digest": self.content_digest()})

    def content_digest(self) -> str:
        return digest_of(self.model_dump(exclude={"digest"}))


def first_broken(facts: Iterable[Fact]) -> Fact | None:
    """The first fact that is not what was written, or does not follow the one before it."""
    previous = GENESIS
    for sequence, fact in enumerate(facts, start=1):
        if fact.sequence != sequence or fact.previous != previous or fact.digest != fact.content_digest():
            return fact
        previous = fact.digest
    return None


def latest(
    facts: Sequence[Fact],
    kind: Kind,
    *,
    model: str | None = None,
    subject: str | None = None,
    fingerprint: str | None = None,
) -> Fact | None:
    """The newest fact of a kind that matches everything given."""
    for fact in reversed(facts):
        if (
            fact.kind == kind
            and model in (None, fact.model)
            and subject in (None, fact.subject)
            and fingerprint in (None, fact.fingerprint)
        ):
            return fact
    return None
