"""What production did since it took over (on a cluster, within the last day at most), against what it promised."""

import math

from dagster import AssetExecutionContext, MaterializeResult, MetadataValue, asset

from llmops_assets.assets.production import production
from llmops_assets.canary_arms import judge_pods, pods_read
from llmops_assets.charts import table
from llmops_assets.deploying import serving_now
from llmops_assets.findings import announced, shown
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_core.slo import Events, judge_error_budget
from llmops_core.traffic_counts import TrafficCounts
from llmops_core.verdict import Finding, Verdict, overall, reasons
from resources.wiring import Platform

OBJECTIVES = "objectives"


@asset(
    partitions_def=models,
    deps=[production],
    group_name="operation",
    kinds={"prometheus"},
    owners=["team:llmops"],
    check_specs=[announced("monitoring", OBJECTIVES, "Does production keep what it promised?")],
)
def monitoring(context: AssetExecutionContext, platform: PlatformResource) -> MaterializeResult:
    """Service level objectives of the serving version: errors, latency, and how much of the error budget is spent."""
    return measured(platform.open(), context.partition_key)


def measured(doors: Platform, model: str) -> MaterializeResult:
    """The measurement, with its check."""
    now = serving_now(doors, model, "production")
    if now is None:
        idle = Finding(OBJECTIVES, Verdict.ERROR, f"{model} does not serve in production")
        return MaterializeResult(metadata={"verdict": "error", "reason": idle.reason}, check_results=[shown(idle)])
    counts = doors.metrics.counts().get(now.body["deployment"])
    findings = judge_slos(counts, doors.settings.slos.error_rate, doors.settings.slos.p95_seconds)
    read = judge_pods(pods_read(doors, [now.body["deployment"]]))
    findings += [read] if read is not None else []
    rows = [[f.name, f.verdict.label, f.reason] for f in findings]
    kept = Finding(OBJECTIVES, overall(findings), reasons(findings) or "every objective is kept")
    return MaterializeResult(
        check_results=[shown(kept)],
        metadata={
            "verdict": kept.verdict.label,
            "objectives": MetadataValue.md(table(["objective", "verdict", "seen"], rows)),
            "deployment": now.body["deployment"],
            "requests": counts.requests if counts else 0,
        },
    )


def judge_slos(counts: TrafficCounts | None, error_rate: float, p95_seconds: float) -> list[Finding]:
    """Errors against the budget, the 95th percentile against its limit. No requests: nothing is known, an error."""
    events = Events(counts.requests, counts.failures) if counts else Events(0, 0)
    return [judge_error_budget("errors", events, 1 - error_rate), _judge_latency(counts, p95_seconds)]


def _judge_latency(counts: TrafficCounts | None, limit_seconds: float) -> Finding:
    p95 = counts.quantile_seconds(0.95) if counts else None
    if p95 is None:
        return Finding("p95", Verdict.ERROR, "no request was measured", None, limit_seconds)
    seen = "above every bucket" if math.isinf(p95) else f"{p95 * 1000:.0f} ms"
    verdict = Verdict.PASSED if p95 <= limit_seconds else Verdict.FAILED
    reason = f"{seen}, the limit is {limit_seconds * 1000:.0f} ms"
    return Finding("p95", verdict, reason, None if math.isinf(p95) else p95, limit_seconds)
