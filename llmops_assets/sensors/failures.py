"""A run that died without a word: its end is written to the ledger, so that `llmops status` knows of it."""

from dagster import DefaultSensorStatus, RunFailureSensorContext, run_failure_sensor

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
