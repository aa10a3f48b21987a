"""A new signature may open a gate that waits: the release of that revision goes on."""

from dagster import DefaultSensorStatus, RunRequest, SensorEvaluationContext, SensorResult, SkipReason, sensor

from llmops_assets.jobs.release import release
from llmops_assets.operations.continuing import cursor_at, seen_in, tags_to_continue, waits_at
from llmops_assets.resource import PlatformResource
from llmops_core.approval import Statement


@sensor(job=release, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def approvals(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    """Continues a release that waits for approval when somebody signed."""
    doors = platform.open()
    last = doors.ledger.last()
    requests: list[RunRequest] = []
    for fact in doors.ledger.facts(after=seen_in(doors.ledger, context.cursor)) if last else ():
        if fact.kind != "approved":
            continue
        revision = Statement.from_bytes(str(fact.body["statement"]).encode()).revision
        if waits_at(doors.ledger.facts(fact.model), fact.model, "approval") == revision:
            tags = tags_to_continue(doors, fact.model, revision, "an approval was signed")
            requests.append(RunRequest(run_key=f"approved:{fact.digest}", partition_key=fact.model, tags=tags))
    reason = None if requests else "no new approval of a release that waits for one"
    return SensorResult(run_requests=requests, skip_reason=reason, cursor=cursor_at(last))
