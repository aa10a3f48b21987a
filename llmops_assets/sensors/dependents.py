"""A family goes up in order: a model that waited for another one in production goes on when that one is there."""

from collections.abc import Sequence

from dagster import DefaultSensorStatus, RunRequest, SensorEvaluationContext, SensorResult, SkipReason, sensor

from llmops_assets.jobs.release import release
from llmops_assets.operations.continuing import tags_to_continue, waits_at
from llmops_assets.release import spec_at
from llmops_assets.repositories import doors_of
from llmops_assets.resource import PlatformResource
from llmops_core.facts import Fact, latest
from resources.wiring import Platform


@sensor(job=release, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def dependents(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    """Continues releases that waited for a model which now serves in production."""
    doors = platform.open()
    facts = doors.ledger.facts()
    last = facts[-1].sequence if facts else 0
    if last == int(context.cursor or 0):
        return SkipReason("nothing happened")
    requests: list[RunRequest] = []
    for model in sorted({fact.model for fact in facts}):
        revision = waits_at(facts, model, "production")
        if revision and (arrived := _arrived(doors, facts, model, revision)):
            tags = tags_to_continue(doors, model, revision, f"{arrived.model} is in production")
            requests.append(RunRequest(run_key=f"dependency:{model}:{arrived.digest}", partition_key=model, tags=tags))
    reason = None if requests else "no release waits for a model that came to production"
    return SensorResult(run_requests=requests, skip_reason=reason, cursor=str(last))


def _arrived(platform: Platform, facts: Sequence[Fact], model: str, revision: str) -> Fact | None:
    """The newest arrival in production of a model that this one depends on, if that was after its own run began."""
    began = latest(facts, "pinned", model=model)
    needed = spec_at(doors_of(platform, model), revision, model).depends_on
    switched = (latest(facts, "switched", model=other, subject="production") for other in needed)
    newest = max(filter(None, switched), key=lambda fact: fact.sequence, default=None)
    return newest if newest and began and newest.sequence > began.sequence else None
