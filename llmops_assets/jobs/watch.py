"""What production did lately, measured against what it promised, and what its users said: all models in one run.

A run for each model would be a thousand pods every ten minutes. It would also wait in the queue while a release of the
same model trains, since a model has one run at a time there, and production would be looked at by nobody for hours. So
this job has no partition; it measures as the assets do, and reports for each model's partition of them.
"""

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    Failure,
    MaterializeResult,
    OpExecutionContext,
    in_process_executor,
    job,
    op,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from llmops_assets.assets.feedback import curated
from llmops_assets.assets.monitoring import measured
from llmops_assets.deploying import serving_now
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_core.errors import LlmopsError


@op
def look_at_production(context: OpExecutionContext, platform: PlatformResource) -> None:
    """Measures every model that serves. One that cannot be measured keeps no other from it, and fails the run."""
    doors = platform.open()
    failed: list[str] = []
    for model in context.instance.get_dynamic_partitions(models.name or ""):
        if serving_now(doors, model, "production") is None:
            continue
        try:
            _report(context, "monitoring", model, measured(doors, model))
            _report(context, "feedback", model, curated(doors, model))
        except LlmopsError as error:
            failed.append(f"{model}: {error}")
    if failed:
        raise Failure("\n".join(failed))


@job(
    executor_def=in_process_executor,
    description="Service level objectives and error budget of what serves now, and the ratings of its answers.",
)
def watch() -> None:
    look_at_production()


def _report(context: OpExecutionContext, asset: str, model: str, result: MaterializeResult) -> None:
    tags = {DATA_VERSION_TAG: result.data_version.value} if result.data_version else None
    context.log_event(AssetMaterialization(asset, partition=model, metadata=result.metadata, tags=tags))
    for check in result.check_results or ():
        evaluation = AssetCheckEvaluation(
            asset_key=AssetKey(asset),
            check_name=check.check_name or "",
            passed=check.passed,
            metadata=check.metadata,
            severity=check.severity,
            description=check.description,
            partition=model,
        )
        context.instance.report_runless_asset_event(evaluation)
