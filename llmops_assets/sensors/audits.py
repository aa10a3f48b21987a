"""Every release is audited as soon as it is done."""

from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunStatusSensorContext,
    SkipReason,
    run_status_sensor,
)
from dagster._core.storage.tags import PRIORITY_TAG

from llmops_assets.deploying import serving_now
from llmops_assets.jobs.audit import audit
from llmops_assets.jobs.release import release
from llmops_assets.resource import PlatformResource
from llmops_assets.tags import REVISION_TAG


@run_status_sensor(
    run_status=DagsterRunStatus.SUCCESS,
    monitored_jobs=[release],
    request_job=audit,
    default_status=DefaultSensorStatus.RUNNING,
)
def audits(context: RunStatusSensorContext, platform: PlatformResource) -> RunRequest | SkipReason:
    """Starts the audit of the model that a release brought to production."""
    run = context.dagster_run
    model = run.tags["dagster/partition"]
    if serving_now(platform.open(), model, "production") is None:
        return SkipReason(f"{model} does not serve in production")
    # before a release of the same model that waits in the queue already: that one would serve by the time of this audit
    tags = {REVISION_TAG: run.tags.get(REVISION_TAG, ""), PRIORITY_TAG: "1"}
    return RunRequest(run_key=f"audit:{run.run_id}", partition_key=model, tags=tags)
