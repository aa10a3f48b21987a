"""No candidate keeps production traffic that nobody judges."""

import time
from dataclasses import replace

from dagster import DefaultSensorStatus, RunRequest, SensorEvaluationContext, SensorResult, sensor

from llmops_assets.jobs.release import release
from llmops_assets.operations.continuing import tags_to_continue
from llmops_assets.operations.open_canaries import CANARY_TAG, Step, end_canary, open_canaries, step_of
from llmops_assets.repositories import doors_of, named
from llmops_assets.resource import PlatformResource
from llmops_core.errors import LlmopsError
from resources.wiring import Platform


@sensor(job=release, minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def canaries(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult:
    """Goes on with canaries whose run died, and gives the traffic of those back that no run may go on with."""
    doors = platform.open()
    requests: list[RunRequest] = []
    told: list[str] = []
    for canary, facts in open_canaries(doors):
        model = canary.start.model
        try:
            step = step_of(canary, facts, context.instance, time.time())
            if step is not None and (why := step.over or _why_no_run(doors, model)):
                told.append(f"{model}: {end_canary(doors, replace(step, over=why))}")
            elif step is not None:
                requests.append(_request(doors, step))
        except LlmopsError as error:
            told.append(f"{model}: {canary.told}, and it could not be given back: {error}")
    for line in told:
        context.log.warning(line)
    reason = "; ".join(told) or "every canary that began has ended, or has its run"
    return SensorResult(run_requests=requests, skip_reason=None if requests else reason)


def _why_no_run(platform: Platform, model: str) -> str:
    """Why no run could go on with a canary of this model; empty while one could."""
    repository = doors_of(platform, model).repository
    if not repository or repository in {each.name for each in platform.settings.repositories}:
        return ""
    return f"{named(repository)} is not watched any more"


def _request(platform: Platform, step: Step) -> RunRequest:
    canary = step.canary
    tags = tags_to_continue(platform, canary.start.model, canary.revision, f"the run of its canary died: {canary.told}")
    return RunRequest(
        run_key=f"canary:{canary.start.digest}:{step.run}",
        partition_key=canary.start.model,
        tags={**tags, CANARY_TAG: canary.start.digest},
    )
