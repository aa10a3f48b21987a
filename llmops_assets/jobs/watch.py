"""What production did lately, measured against what it promised, and what its users said: all models in one run.

A run for each model would be a thousand pods every ten minutes. It would also wait in the queue while a release of the
same model trains, since a model has one run at a time there, and production would be looked at by nobody for hours. So
this job has no partition; it measures as the assets do, and reports for each model's partition of them.
"""

from collections.abc import Callable

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
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

from llmops_assets.assets.feedback import GIVES_ROWS, curated
from llmops_assets.assets.monitoring import OBJECTIVES, measured
from llmops_assets.deploying import serving_now
from llmops_assets.findings import shown
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_core.verdict import Finding, Verdict
from resources.wiring import Platform

LOOKS: dict[str, tuple[str, Callable[[Platform, str], MaterializeResult]]] = {
    "monitoring": (OBJECTIVES, lambda doors, model: measured(doors, model)),
    "feedback": (GIVES_ROWS, lambda doors, model: curated(doors, model)),
}


@op
def look_at_production(context: OpExecutionContext, platform: PlatformResource) -> None:
    """Measures every model that serves. One that cannot be measured keeps no other from it, is told as what nobody
    knows, and fails the run."""
    doors = platform.open()
    failed: list[str] = []
    for model in context.instance.get_dynamic_partitions(models.name or ""):
        for asset, (check, look) in LOOKS.items():
            try:
                if serving_now(doors, model, "production") is not None:
                    _report(context, asset, model, look(doors, model))
            except Exception as error:  # whatever it is, the others are looked at
                context.log.error(f"{model}: {asset}", exc_info=True)
                failed.append(f"{model}: {asset}: {type(error).__name__}: {error}")
                unknown = shown(Finding(check, Verdict.ERROR, f"it could not be looked at: {error}"))
                _tell(context, asset, model, unknown)
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
        _tell(context, asset, model, check)


def _tell(context: OpExecutionContext, asset: str, model: str, check: AssetCheckResult) -> None:
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
