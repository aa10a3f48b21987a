"""The reaper: no path may leave a job that burns a GPU for nobody."""

from dagster import DefaultSensorStatus, SensorEvaluationContext, SkipReason, sensor

from llmops_assets.operations.reaping import reap
from llmops_assets.resource import PlatformResource
from llmops_core.job_settings import ClusterJobsPlace


@sensor(minimum_interval_seconds=60, default_status=DefaultSensorStatus.RUNNING)
def reaper(context: SensorEvaluationContext, platform: PlatformResource) -> SkipReason:
    """Ends jobs on the cluster whose run is over or unknown."""
    opened = platform.open()
    place = opened.settings.jobs
    if not isinstance(place, ClusterJobsPlace):
        return SkipReason("jobs run on this machine, and end with their runs")
    ended = reap(opened, context.instance, place.orphan_seconds)
    return SkipReason("; ".join(f"ended {each}" for each in ended) or "every job has its run")
