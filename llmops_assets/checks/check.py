"""One check beside an asset: what is asked, of which fact, and how the answer is shown.

Checks display; the gates in llmops_core decide without them. A check looks at what this run's revision made or used
again, because another revision's evidence says nothing about it, and what cannot be found out has not passed.
"""

from collections.abc import Callable

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetsDefinition,
    asset_check,
)

from llmops_assets.findings import shown
from llmops_assets.partitions import models
from llmops_assets.release import Release, open_release, pinned_revision
from llmops_assets.repositories import doors_of
from llmops_assets.resource import PlatformResource
from llmops_assets.tags import REVISION_TAG
from llmops_core.errors import LlmopsError
from llmops_core.facts import Fact
from llmops_core.verdict import Finding, Verdict

Judge = Callable[[Release, Fact], Finding]


def check_of(
    checked: AssetsDefinition,
    name: str,
    question: str,
    judge: Judge,
    *,
    blocking: bool = False,
    severity: AssetCheckSeverity = AssetCheckSeverity.ERROR,
) -> AssetChecksDefinition:
    """A check of that name. One that blocks ends the run where it fails."""
    stage = checked.key.path[-1]

    @asset_check(asset=checked, name=name, blocking=blocking, partitions_def=models, description=question)
    def check(context: AssetCheckExecutionContext, platform: PlatformResource) -> AssetCheckResult:
        return shown(_found(context, platform, stage, name, judge), severity)

    return check


def _found(
    context: AssetCheckExecutionContext, platform: PlatformResource, stage: str, name: str, judge: Judge
) -> Finding:
    model, run = context.partition_key, context.run
    try:
        doors = doors_of(platform.open(), model)
        revision = pinned_revision(doors, model, run.run_id, run.tags.get(REVISION_TAG))
        release = open_release(doors, model, revision)
        fact = release.evidence().get(stage)
        return Finding(name, Verdict.ERROR, "it was never made") if fact is None else judge(release, fact)
    except LlmopsError as error:
        return Finding(name, Verdict.ERROR, str(error))
