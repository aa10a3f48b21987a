"""The audit as an asset: the chain from the running endpoint to the commit, as it was found at this moment."""

from typing import Any

from dagster import AssetExecutionContext, Failure, MaterializeResult, MetadataValue, asset

from llmops_assets.assets.production import production
from llmops_assets.charts import table
from llmops_assets.operations.audit import audit
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_core.lineage import first_not_verified, verdict_of


@asset(partitions_def=models, deps=[production], group_name="audit", kinds={"git", "dvc"}, owners=["team:llmops"])
def lineage(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """Is what serves what was proven, approved and committed? Fails, naming the first broken link, when it is not."""
    links = audit(platform.open(), context.partition_key)
    chain = MetadataValue.md(table(["link", "verdict", "seen"], [[x.name, x.verdict, x.detail] for x in links]))
    first = first_not_verified(links)
    if first is not None:
        raise Failure(f"{first.verdict}: {first.name}: {first.detail}", metadata={"chain": chain}, allow_retries=False)
    return MaterializeResult(metadata={"verdict": verdict_of(links), "chain": chain})
