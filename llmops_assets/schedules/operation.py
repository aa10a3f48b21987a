"""Production is looked at every few minutes, whoever is awake."""

from dagster import DefaultScheduleStatus, RunRequest, RunsFilter, ScheduleEvaluationContext, SkipReason, schedule
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from llmops_assets.deploying import serving_now
from llmops_assets.jobs.watch import watch
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource


@schedule(job=watch, cron_schedule="*/10 * * * *", default_status=DefaultScheduleStatus.RUNNING)
def watch_production(context: ScheduleEvaluationContext, platform: PlatformResource) -> RunRequest | SkipReason:
    """Measures every model that serves in production, unless the run before still does."""
    doors = platform.open()
    names = context.instance.get_dynamic_partitions(models.name or "")
    if all(serving_now(doors, name, "production") is None for name in names):
        return SkipReason("no model serves in production")
    before = RunsFilter(job_name=watch.name, statuses=list(NOT_FINISHED_STATUSES))
    if going := context.instance.get_runs(before, limit=1):
        return SkipReason(f"run {going[0].run_id[:8]} still looks")
    return RunRequest()
