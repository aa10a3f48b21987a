"""The reaper: no path may leave a job that burns a GPU for nobody."""

from dagster import DefaultSensorStatus, SensorEvaluationContext, SkipReason, sensor

from llmops_assets.operations.reaping import bill_ended, reap
from llmops_assets.resource import PlatformResource
from llmops_core.job_settings import ClusterJobsPlace


@sensor(minimum_interval_seconds=60, default_status=DefaultSensorStatus.RUNNING)
def reaper(context: SensorEvaluationContext, platform: PlatformResource) -> SkipReason:
    """Ends jobs on the cluster whose run is over or unknown, and bills those that ended when nobody looked."""
    opened = platform.open()
    place = opened.settings.jobs
    if not isinstance(place, ClusterJobsPlace):
        return SkipReason("jobs run on this machine, and end with their runs")
    told = [f"ended {each}" for each in reap(opened, context.instance, place.orphan_seconds)]
    told += [f"billed {each}" for each in bill_ended(opened, context.instance, place.orphan_seconds)]
    return SkipReason("; ".join(told) or "every job has its run")
