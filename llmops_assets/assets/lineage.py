"""The audit as an asset: the chain from the running endpoint to the commit, as it was found at this moment."""

from dagster import AssetExecutionContext, Failure, MaterializeResult, MetadataValue, asset

from llmops_assets.assets.production import production
from llmops_assets.charts import table
from llmops_assets.findings import announced, shown
from llmops_assets.operations.audit import audit
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_core.lineage import first_not_verified, verdict_of
from llmops_core.verdict import Finding, Verdict

VERIFIED = "verified"


# Without a return type, because where checks come along Dagster refuses that of a generator. The check is yielded
# before the asset fails, so that both are seen.
@asset(
    partitions_def=models,
    deps=[production],
    group_name="audit",
    kinds={"git", "dvc"},
    owners=["team:llmops"],
    check_specs=[announced("lineage", VERIFIED, "Is every link proven, from the endpoint to the commit?")],
)
def lineage(
    context: AssetExecutionContext, platform: PlatformResource
):  # Dagster refuses Iterator where checks come along
    """Is what serves what was proven, approved and committed? Fails, naming the first broken link, when it is not."""
    links = audit(platform.open(), context.partition_key)
    verdict, first = verdict_of(links), first_not_verified(links)
    chain = MetadataValue.md(table(["link", "verdict", "seen"], [[x.name, x.verdict, x.detail] for x in links]))
    if first is None and verdict == "verified":
        yield shown(Finding(VERIFIED, Verdict.PASSED, f"all {len(links)} links"))
        yield MaterializeResult(metadata={"verdict": verdict, "chain": chain})
        return
    why = f"{first.verdict}: {first.name}: {first.detail}" if first else "there is no link to verify"
    yield shown(Finding(VERIFIED, Verdict.FAILED if verdict == "broken" else Verdict.ERROR, why))
    raise Failure(why, metadata={"chain": chain}, allow_retries=False)
