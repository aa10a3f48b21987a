"""What a person sees beside each asset: whether it passed, and why not. The gates themselves are in llmops_core."""

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetCheckSeverity, AssetsDefinition, asset_check

from llmops_assets.assets.canary import canary
from llmops_assets.assets.evaluation import evaluation
from llmops_assets.assets.staging_tests import staging_tests
from llmops_assets.partitions import models
from llmops_assets.release import open_release, pinned_revision
from llmops_assets.repositories import doors_of
from llmops_assets.resource import PlatformResource
from llmops_assets.tags import REVISION_TAG
from llmops_core.facts import Fact
from llmops_core.promotion import PASSED
from resources.wiring import Platform


def _gate(checked: AssetsDefinition, question: str):
    name = checked.key.path[-1]

    @asset_check(asset=checked, name="passed", blocking=True, partitions_def=models, description=question)
    def passed(context: AssetCheckExecutionContext, platform: PlatformResource) -> AssetCheckResult:
        fact = _judged(context, platform.open(), name)
        verdict = fact.body["verdict"] if fact else "error"
        reason = (fact.body.get("reason") or "all findings passed") if fact else "it was never made"
        return AssetCheckResult(
            passed=verdict == PASSED,
            severity=AssetCheckSeverity.ERROR,
            description=reason,
            metadata={"verdict": verdict, "reason": reason},
        )

    return passed


gates = [
    _gate(evaluation, "Is the candidate good enough, and no worse than what serves?"),
    _gate(staging_tests, "Does the staged version answer, answer rightly, and bear load?"),
    _gate(canary, "Is it proven that users are not harmed?"),
]


def _judged(context: AssetCheckExecutionContext, platform: Platform, name: str) -> Fact | None:
    """What this run's revision made or used again; another revision's verdict says nothing about it."""
    model, run = context.partition_key, context.run
    platform = doors_of(platform, model)
    revision = pinned_revision(platform, model, run.run_id, run.tags.get(REVISION_TAG))
    return open_release(platform, model, revision).evidence().get(name)
