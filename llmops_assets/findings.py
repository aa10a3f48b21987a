"""A finding as Dagster shows it beside an asset."""

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec

from llmops_assets.partitions import models
from llmops_core.verdict import Finding, Verdict


def shown(finding: Finding, severity: AssetCheckSeverity = AssetCheckSeverity.ERROR) -> AssetCheckResult:
    """The check that has the finding's name; only PASSED passes."""
    return AssetCheckResult(
        check_name=finding.name,
        passed=finding.verdict is Verdict.PASSED,
        severity=severity,
        description=finding.reason,
        metadata={"verdict": finding.verdict.label, "reason": finding.reason},
    )


def announced(asset: str, name: str, question: str) -> AssetCheckSpec:
    """A check whose result the asset's own run brings, because looking again would be the same work again."""
    return AssetCheckSpec(name, asset=asset, description=question, partitions_def=models)
