"""A new signature may open a gate that waits: the release of that revision goes on, unless a newer one was asked for
since that one began; the older would go to production after it."""

from collections.abc import Sequence

from dagster import DefaultSensorStatus, RunRequest, SensorEvaluationContext, SensorResult, SkipReason, sensor

from llmops_assets.jobs.release import release
from llmops_assets.repositories import doors_of
from llmops_assets.resource import PlatformResource
from llmops_assets.tags import REASON_TAG, REVISION_TAG, tags_of
from llmops_core.approval import Statement
from llmops_core.facts import Fact, latest
from llmops_core.status import fold
from resources.wiring import Platform

REASON = "an approval was signed"


@sensor(job=release, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def approvals(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    """Continues a release that waits for approval when somebody signed."""
    doors = platform.open()
    facts = doors.ledger.facts()
    seen = int(context.cursor or 0)
    last = facts[-1].sequence if facts else 0
    requests: list[RunRequest] = []
    for fact in facts[seen:]:
        if fact.kind != "approved":
            continue
        revision = Statement.from_bytes(str(fact.body["statement"]).encode()).revision
        if newer := _newer(facts, fact.model, revision):
            context.log.info(f"{fact.model}: {revision[:12]} is signed, but {newer} was asked for since it began")
        elif _waits(facts, fact.model, revision):
            run_key = f"approved:{fact.digest}"
            tags = _tags(doors, fact.model, revision)
            requests.append(RunRequest(run_key=run_key, partition_key=fact.model, tags=tags))
    reason = None if requests else "no new approval of a release that waits for one"
    return SensorResult(run_requests=requests, skip_reason=reason, cursor=str(last))


def _waits(facts: Sequence[Fact], model: str, revision: str) -> bool:
    status = fold(model, facts)
    return status.latest_revision == revision and any(blocked.stage == "approval" for blocked in status.blocked)


def _newer(facts: Sequence[Fact], model: str, revision: str) -> str:
    """The revision of a request that came after the newest run; empty where there is none."""
    asked, pinned = latest(facts, "requested", model=model), latest(facts, "pinned", model=model)
    if asked is None or pinned is None or asked.sequence < pinned.sequence or asked.body["revision"] == revision:
        return ""
    return str(asked.body["revision"])[:12]


def _tags(platform: Platform, model: str, revision: str) -> dict[str, str]:
    """Those of the request, where one asked for this revision, so that a newer one supersedes this run in the queue."""
    asked = platform.ledger.newest(model, "requested")
    if asked is None or asked.body["revision"] != revision:
        return {REVISION_TAG: revision, REASON_TAG: REASON}
    return tags_of(doors_of(platform, model), asked) | {REASON_TAG: REASON}
