"""The reaper: no path may leave a job that burns a GPU for nobody."""

from dagster import DefaultSensorStatus, SensorEvaluationContext, SkipReason, sensor

from llmops_assets.operations.reaping import bill_ended, reap
from llmops_assets.resource import PlatformResource
from llmops_core.errors import LlmopsError, TransientError
from llmops_core.job_settings import ClusterJobsPlace


@sensor(minimum_interval_seconds=60, default_status=DefaultSensorStatus.RUNNING)
def reaper(context: SensorEvaluationContext, platform: PlatformResource) -> SkipReason:
    """Ends jobs on the cluster whose run is over or unknown, and bills those that ended when nobody looked."""
    opened = platform.open()
    place = opened.settings.jobs
    if not isinstance(place, ClusterJobsPlace):
        return SkipReason("jobs run on this machine, and end with their runs")
    told: list[str] = []
    failed: list[str] = []
    for done, act in (("ended", reap), ("billed", bill_ended)):
        try:
            told += [f"{done} {each}" for each in act(opened, context.instance, place.orphan_seconds)]
        except LlmopsError as error:
            failed.append(str(error))
    if failed:
        raise TransientError("; ".join([*failed, *told]))
    return SkipReason("; ".join(told) or "every job has its run")
