"""A new signature may open a gate that waits: the release of that revision goes on."""

from dagster import DefaultSensorStatus, RunRequest, SensorEvaluationContext, SensorResult, SkipReason, sensor

from llmops_assets.jobs.release import release
from llmops_assets.resource import PlatformResource
from llmops_assets.tags import REVISION_TAG
from llmops_core.approval import Statement
from llmops_core.status import fold


@sensor(job=release, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def approvals(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    """Continues a release that waits for approval when somebody signed."""
    facts = platform.open().ledger.facts()
    seen = int(context.cursor or 0)
    last = facts[-1].sequence if facts else 0
    requests: list[RunRequest] = []
    for fact in facts[seen:]:
        if fact.kind != "approved":
            continue
        revision = Statement.from_bytes(str(fact.body["statement"]).encode()).revision
        status = fold(fact.model, facts)
        if status.latest_revision == revision and any(blocked.stage == "approval" for blocked in status.blocked):
            tags = {REVISION_TAG: revision, "llmops/reason": "an approval was signed"}
            requests.append(RunRequest(run_key=f"approved:{fact.digest}", partition_key=fact.model, tags=tags))
    reason = None if requests else "no new approval"
    return SensorResult(run_requests=requests, skip_reason=reason, cursor=str(last))
