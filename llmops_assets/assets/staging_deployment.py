"""The registered version, served where only tests and the team reach it."""

from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.registered_version import registered_version
from llmops_assets.deploying import deploy, public_url, record_switch, retire_all_but, route
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.facts import Fact
from llmops_core.fingerprint import digest_of


@asset(
    partitions_def=models,
    deps=[registered_version],
    group_name="staging",
    kinds={"envoy"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def staging_deployment(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """A running server of the candidate behind the gateway's staging route."""
    with stage(context, platform.open(), "staging_deployment") as step:
        fact = _deployed(step)
        url = public_url(step.platform, step.release.model, "staging")
        return step.shown(fact, url=MetadataValue.url(f"{url}/v1/models"), deployment=fact.body["deployment"])


def _deployed(step: Step) -> Fact:
    """Also brings a server back that a restart lost; the fact is written once."""
    step.evidence()
    deployment = deploy(step, "staging")
    route(step.platform, "staging", [(deployment, 100)], step.refuse_if_retired)
    retire_all_but(step.platform, step.release.model, "staging", [deployment.name])
    described = deployment.model_dump(mode="json", exclude={"port", "host"})
    fact = step.done or step.record(digest_of(described), {"deployment": deployment.name})
    record_switch(step.platform, deployment, "staging", step.release.revision, "staged")
    return fact
