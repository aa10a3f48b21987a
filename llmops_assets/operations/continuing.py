"""Going on with a release that a gate held up, once what it waited for has come."""

from collections.abc import Sequence

from llmops_assets.repositories import doors_of
from llmops_assets.tags import REASON_TAG, REVISION_TAG, tags_of
from llmops_core.facts import Fact, latest
from llmops_core.status import fold
from resources.ledger.ledger import Ledger
from resources.wiring import Platform


def waits_at(facts: Sequence[Fact], model: str, stage: str) -> str:
    """The revision of the model's newest run if this gate holds it up; empty if none does.

    A release that a newer request came after does not wait any more: it would go to production after the newer one.
    """
    status = fold(model, facts)
    held_up = any(blocked.stage == stage for blocked in status.blocked)
    return status.latest_revision if held_up and not _newer(facts, model, status.latest_revision) else ""


def cursor_at(fact: Fact | None) -> str:
    """The cursor of a sensor that has looked at the ledger up to this fact."""
    return f"{fact.sequence}:{fact.digest[:16]}" if fact else ""


def seen_in(ledger: Ledger, cursor: str | None) -> int:
    """The number of the fact up to which a sensor has looked; 0 for a cursor that nobody can read, or whose fact is not
    there: the ledger was restored from a backup, and counts again from there."""
    number, _, digest = (cursor or "").partition(":")
    if not number.isdecimal() or not digest:
        return 0
    there = ledger.facts(after=int(number) - 1, before=int(number) + 1)
    return int(number) if there and there[0].digest.startswith(digest) else 0


def tags_to_continue(platform: Platform, model: str, revision: str, why: str) -> dict[str, str]:
    """Those of the request that the waiting run answers, so that a newer one supersedes this one in the queue, and it
    undoes none. Nobody asked for a run that a person began in the UI."""
    pinned = platform.ledger.newest(model, "pinned")
    answers = pinned.body.get("generation", 0) if pinned else 0
    for fact in reversed(platform.ledger.facts(model) if answers else ()):
        if fact.kind == "requested" and fact.body["generation"] == answers:
            return tags_of(doors_of(platform, model), fact, revision) | {REASON_TAG: why}
    return {REVISION_TAG: revision, REASON_TAG: why}


def _newer(facts: Sequence[Fact], model: str, revision: str) -> bool:
    asked, pinned = latest(facts, "requested", model=model), latest(facts, "pinned", model=model)
    if asked is None or pinned is None:
        return False
    if answers := pinned.body.get("generation", 0):
        return asked.body["generation"] > answers
    return asked.sequence > pinned.sequence and asked.body["revision"] != revision
