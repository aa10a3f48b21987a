"""A family goes up in order: a model that waited for another one in production goes on when that one is there."""

from dagster import DefaultSensorStatus, RunRequest, SensorEvaluationContext, SensorResult, SkipReason, sensor

from llmops_assets.deploying import serving_now
from llmops_assets.jobs.release import release
from llmops_assets.operations.continuing import cursor_at, tags_to_continue, waits_at
from llmops_assets.release import spec_at
from llmops_assets.repositories import doors_of
from llmops_assets.resource import PlatformResource
from llmops_core.errors import LlmopsError
from llmops_core.facts import Fact, latest
from resources.wiring import Platform


@sensor(job=release, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def dependents(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    """Continues releases that waited for a model which now serves in production."""
    doors = platform.open()
    last = cursor_at(doors.ledger.last())
    if last == (context.cursor or ""):
        return SkipReason("nothing happened")
    requests: list[RunRequest] = []
    for fact in doors.ledger.newest_of_each("refused", subject="production"):
        try:
            arrived = _arrived(doors, fact.model)
        except LlmopsError as error:
            context.log.warning(f"{fact.model}: what it waits for cannot be told: {error}")
            last = context.cursor or ""  # it is asked again, though nothing more may happen
            continue
        if arrived is not None:
            requests.append(_request(doors, fact.model, *arrived))
    reason = None if requests else "no release waits for a model that came to production"
    return SensorResult(run_requests=requests, skip_reason=reason, cursor=last)


def _arrived(platform: Platform, model: str) -> tuple[str, Fact] | None:
    """(revision that waits, newest arrival in production of a model that it depends on), if that model serves now and
    came after the waiting run began."""
    facts = platform.ledger.facts(model)
    revision, began = waits_at(facts, model, "production"), latest(facts, "pinned", model=model)
    if not revision or began is None:
        return None
    needed = spec_at(doors_of(platform, model), revision, model).depends_on
    switched = (serving_now(platform, other, "production") for other in needed)
    newest = max(filter(None, switched), key=lambda fact: fact.sequence, default=None)
    return (revision, newest) if newest and newest.sequence > began.sequence else None


def _request(platform: Platform, model: str, revision: str, arrived: Fact) -> RunRequest:
    tags = tags_to_continue(platform, model, revision, f"{arrived.model} is in production")
    return RunRequest(run_key=f"dependency:{model}:{arrived.digest}", partition_key=model, tags=tags)
