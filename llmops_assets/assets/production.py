"""Production: all traffic on the proven version, the one before it kept warm for an instant way back."""

from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.canary import canary
from llmops_assets.deploying import deploy, public_url, record_switch, retire_all_but, route, serving_now
from llmops_assets.operations.endpoint import ask
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.errors import IntegrityError
from llmops_core.facts import Fact
from llmops_core.fingerprint import digest_of
from llmops_core.made_of import kept
from llmops_core.registration import VersionFacts

ARTIFACT_STAGES = ("dataset", "base_weights", "weights", "evaluation", "staging_tests", "canary")


@asset(
    partitions_def=models,
    deps=[canary],
    group_name="release",
    kinds={"envoy"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def production(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """What answers users now. Every piece of evidence is verified again before the traffic moves."""
    with stage(context, platform.open(), "production") as step:
        fact = _promoted(step)
        url = public_url(step.platform, step.release.model, "production")
        return step.shown(
            fact,
            url=MetadataValue.url(f"{url}/v1/models"),
            version=fact.body["version"],
            weights_digest=fact.body["weights_digest"],
            deployment=fact.body["deployment"],
        )


def _promoted(step: Step) -> Fact:
    evidence = step.evidence()
    for name in ARTIFACT_STAGES:
        step.artifact(name)
    platform, release = step.platform, step.release
    version = evidence["registered_version"].body
    platform.registry.verify(int(version["version"]), VersionFacts.model_validate(version["facts"]))
    step.refuse_before_dependencies()
    before_now = serving_now(platform, release.model, "production")
    deployment = deploy(step, "production")
    if deployment.name != evidence["canary"].body["deployment"]:
        raise IntegrityError(
            f"{deployment.name} is not what the canary proved: {evidence['canary'].body['deployment']}"
        )
    previous = before_now.body["deployment"] if before_now else None
    body = {"deployment": deployment.name, "version": deployment.version, "weights_digest": deployment.weights_digest}
    platform.ledger.append(
        "intended",
        model=release.model,
        subject="production",
        fingerprint=step.fingerprint,
        body={**body, "previous": previous},
    )
    route(platform, "production", [(deployment, 100)], lambda: _refuse_without_proof(step))
    answer = ask(public_url(platform, release.model, "production"), "Are you there?")
    if (answer.version, answer.weights_digest) != (deployment.version, deployment.weights_digest):
        raise IntegrityError(f"the gateway answers with version {answer.version}, not with {deployment.version}")
    platform.registry.set_alias(release.model, "production", int(deployment.version))
    described = {**body, "revision": release.revision}
    fact = step.done or step.record(digest_of(described), {**body, "made_of": kept(release.made_of)})
    record_switch(platform, deployment, "production", release.revision, "promoted")
    now = serving_now(platform, release.model, "production")
    retire_all_but(platform, release.model, "production", [deployment.name, now.body["previous"] if now else None])
    return fact


def _refuse_without_proof(step: Step) -> None:
    """Somebody may have ended the model, or given a canary's traffic back, since this stage began."""
    step.refuse_if_retired()
    step.evidence()
