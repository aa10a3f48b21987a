"""A run that died without a word: its end is written to the ledger, so that `llmops status` knows of it."""

import psutil
from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    RunFailureSensorContext,
    RunsFilter,
    SensorEvaluationContext,
    SkipReason,
    run_failure_sensor,
    sensor,
)
from dagster._core.launcher import DefaultRunLauncher

from llmops_assets.jobs.release import release
from llmops_assets.resource import PlatformResource
from llmops_assets.tags import REVISION_TAG


@run_failure_sensor(monitored_jobs=[release], minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def failures(context: RunFailureSensorContext, platform: PlatformResource) -> None:
    """Records why a release failed where the release itself could not."""
    run = context.dagster_run
    model = run.tags.get("dagster/partition", "")
    ledger = platform.open().ledger
    told = any(
        fact.kind in ("refused", "produced") and fact.body.get("run_id") == run.run_id and _explains(fact.body)
        for fact in ledger.facts(model)
    )
    if not told:
        reason = f"the run ended: {context.failure_event.message}"
        body = {"reason": reason, "revision": run.tags.get(REVISION_TAG, ""), "run_id": run.run_id}
        ledger.append("refused", model=model, subject="run", body=body, once=f"failed:{run.run_id}")


def _explains(body: dict[str, object]) -> bool:
    return "reason" in body and body.get("verdict") != "passed"


@sensor(minimum_interval_seconds=15, default_status=DefaultSensorStatus.RUNNING)
def orphans(context: SensorEvaluationContext) -> SkipReason:
    """Ends runs whose process was killed with the code server, which starts it: nobody else would notice, and the
    model's next release would wait for them for ever. Sensors are evaluated in the code server of today, so that a run
    older than this process has none any more."""
    if not isinstance(context.instance.run_launcher, DefaultRunLauncher):
        return SkipReason("this run launcher watches its own runs")
    born = psutil.Process().create_time()
    going = RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])
    dead = [
        record.dagster_run
        for record in context.instance.get_run_records(going)
        if record.start_time is not None and record.start_time < born
    ]
    for run in dead:
        context.instance.report_run_failed(run, message="its process ended with the code server that had started it")
    return SkipReason(f"ended {len(dead)} runs without a process" if dead else "every run has its process")
