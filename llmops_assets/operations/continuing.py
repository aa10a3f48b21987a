"""Going on with a release that a gate held up, once what it waited for has come."""

from collections.abc import Sequence

from llmops_assets.repositories import doors_of
from llmops_assets.tags import REASON_TAG, REVISION_TAG, tags_of
from llmops_core.facts import Fact, latest
from llmops_core.status import fold
from resources.wiring import Platform


def waits_at(facts: Sequence[Fact], model: str, stage: str) -> str:
    """The revision of the model's newest run if this gate holds it up; empty if none does.

    A release that a newer request came after does not wait any more: it would go to production after the newer one.
    """
    status = fold(model, facts)
    held_up = any(blocked.stage == stage for blocked in status.blocked)
    return status.latest_revision if held_up and not _newer(facts, model, status.latest_revision) else ""


def seen_in(cursor: str | None) -> int:
    """The number of the ledger up to which a sensor has looked; 0 for a cursor that nobody can read."""
    return int(cursor) if cursor and cursor.isdecimal() else 0


def number_of(fact: Fact | None) -> int:
    return fact.sequence if fact else 0


def tags_to_continue(platform: Platform, model: str, revision: str, why: str) -> dict[str, str]:
    """Those of the request, where one asked for this revision, so that a newer one supersedes the run in the queue."""
    asked = platform.ledger.newest(model, "requested")
    if asked is None or asked.body["revision"] != revision:
        return {REVISION_TAG: revision, REASON_TAG: why}
    return tags_of(doors_of(platform, model), asked) | {REASON_TAG: why}


def _newer(facts: Sequence[Fact], model: str, revision: str) -> bool:
    asked, pinned = latest(facts, "requested", model=model), latest(facts, "pinned", model=model)
    if asked is None or pinned is None:
        return False
    return asked.sequence > pinned.sequence and asked.body["revision"] != revision
