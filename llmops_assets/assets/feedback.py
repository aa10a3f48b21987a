"""What users said of the answers, as rows that the next version of the dataset may take."""

from dataclasses import replace
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from llmops_assets.assets.monitoring import monitoring
from llmops_assets.charts import table
from llmops_assets.findings import announced, shown
from llmops_assets.operations.feedback import Published, curate_ratings
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_core.errors import GateRefused
from llmops_core.feedback import shown_text
from llmops_core.verdict import Finding, Verdict
from resources.wiring import Platform

SHOWN = 20
GIVES_ROWS = "gives_rows"


@asset(
    partitions_def=models,
    deps=[monitoring],
    group_name="operation",
    kinds={"python"},
    owners=["team:llmops"],
    check_specs=[announced("feedback", GIVES_ROWS, "Did ratings give rows to learn from?")],
)
def feedback(context: AssetExecutionContext, platform: PlatformResource) -> MaterializeResult:
    """All ratings of the model's answers, curated: new rows to learn from, and a reason for every other rating."""
    return curated(platform.open(), context.partition_key)


def curated(doors: Platform, model: str) -> MaterializeResult:
    """The rows and their reasons, with their check."""
    try:
        published = curate_ratings(doors, model)
    except GateRefused as refused:
        unknown = Finding(GIVES_ROWS, Verdict.ERROR, refused.reason)
        return MaterializeResult(
            metadata={"verdict": "error", "reason": unknown.reason}, check_results=[_check(unknown)]
        )
    found = replace(published.finding, name=GIVES_ROWS)
    data_version = DataVersion(published.digest)
    return MaterializeResult(metadata=_shown(published), data_version=data_version, check_results=[_check(found)])


def _check(found: Finding) -> AssetCheckResult:
    """A warning, no error: users owe nobody their ratings."""
    return shown(found, AssetCheckSeverity.WARN)


def _shown(published: Published) -> dict[str, Any]:
    curated = published.curated
    ratings = sum(version.ratings for version in curated.versions)
    versions = [
        [each.version, each.digest[:12], each.ratings, each.mean, each.low, each.high, each.assumed]
        for each in curated.versions
    ]
    header = ["version", "weights", "ratings", "mean of 1 to 5", "low", "high", "version assumed"]
    counts = [[outcome, reason, count] for (outcome, reason), count in curated.counts.items()]
    waiting = [case for case in curated.cases if case.outcome in ("held", "refused")][:SHOWN]
    open_cases = [[case.question, "; ".join(case.answers), case.outcome, case.reason] for case in waiting]
    sample = [[shown_text(row["prompt"]), shown_text(row["response"])] for row in curated.rows[:SHOWN]]
    return {
        "verdict": published.finding.verdict.label,
        "reason": published.finding.reason,
        "rows": len(curated.rows),
        "ratings": ratings,
        "mean_rating": sum(version.mean * version.ratings for version in curated.versions) / ratings,
        "by_version": MetadataValue.md(table(header, versions)),
        "outcomes": MetadataValue.md(table(["outcome", "reason", "ratings"], counts)),
        "sample": MetadataValue.md(table(["prompt", "response"], sample)),
        "waiting": MetadataValue.md(table(["question", "answers", "outcome", "reason"], open_cases)),
        "personal_data": MetadataValue.json(curated.personal_data),
        "curated": MetadataValue.path(str(published.rows)),
        "next_step": published.next_step,
        "digest": published.digest,
    }
