"""The canary: the candidate's share of production traffic grows on proof alone, and falls to nothing on harm."""

from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.approval import approval
from llmops_assets.canary_run import run_canary
from llmops_assets.charts import canary_chart, table
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, stage


@asset(
    partitions_def=models,
    deps=[approval],
    group_name="release",
    kinds={"envoy"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def canary(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """The record of a canary in production: every tick with its counts, and the proof that ended it."""
    with stage(context, platform.open(), "canary") as step:
        done = step.done
        fact = done if done is not None and done.body["verdict"] == "passed" else run_canary(step)
        report = step.report(fact)
        findings = [[f["name"], f["verdict"], f["reason"]] for f in report["ticks"][-1]["findings"]]
        return step.shown(
            fact,
            conclusion=report["reason"],
            chart=MetadataValue.md(canary_chart(report["ticks"], "canary")),
            findings=MetadataValue.md(table(["test", "verdict", "seen"], findings)),
        )
