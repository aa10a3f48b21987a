"""Production is looked at every few minutes, whoever is awake."""

from collections.abc import Iterator

from dagster import DefaultScheduleStatus, RunRequest, ScheduleEvaluationContext, SkipReason, schedule

from llmops_assets.deploying import serving_now
from llmops_assets.jobs.watch import watch
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource


@schedule(job=watch, cron_schedule="*/10 * * * *", default_status=DefaultScheduleStatus.RUNNING)
def watch_production(
    context: ScheduleEvaluationContext, platform: PlatformResource
) -> Iterator[RunRequest | SkipReason]:
    """Measures every model that serves in production."""
    doors = platform.open()
    names = context.instance.get_dynamic_partitions(models.name or "")
    serving = [name for name in names if serving_now(doors, name, "production") is not None]
    if not serving:
        yield SkipReason("no model serves in production")
    for name in serving:
        yield RunRequest(partition_key=name)
