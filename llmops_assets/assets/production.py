"""Production: all traffic on the proven version, the one before it kept warm for an instant way back."""

from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.canary import canary
from llmops_assets.deploying import (
    deploy,
    name_in_registry,
    public_url,
    record_switch,
    retire_all_but,
    retire_unrouted,
    route,
    routed,
    serving_now,
)
from llmops_assets.operations.endpoint import ask
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.errors import GateRefused, IntegrityError
from llmops_core.facts import Fact
from llmops_core.fingerprint import digest_of
from llmops_core.made_of import kept
from llmops_core.open_canary import OpenCanary, open_canary
from llmops_core.registration import VersionFacts
from llmops_core.routing import Deployment

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
    canary = open_canary(platform.ledger.facts(release.model))
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
    try:
        route(platform, "production", [(deployment, 100)], lambda: _refuse_without_proof(step, deployment))
    except GateRefused:
        retire_unrouted(platform, release.model, deployment.name)  # it was ended with the canary, and begun again here
        raise
    answer = ask(public_url(platform, release.model, "production"), "Are you there?")
    if (answer.version, answer.weights_digest) != (deployment.version, deployment.weights_digest):
        raise IntegrityError(f"the gateway answers with version {answer.version}, not with {deployment.version}")
    described = {**body, "revision": release.revision}
    fact = step.done or step.record(digest_of(described), {**body, "made_of": kept(release.made_of)})
    switched = _switched(step, deployment, canary)
    name_in_registry(platform, release.model)
    retire_all_but(platform, release.model, "production", [deployment.name, switched.body["previous"]])
    return fact


def _refuse_without_proof(step: Step, deployment: Deployment) -> None:
    """Somebody may have ended the model, or given a canary's traffic back, since this stage began. What lost its share
    and could not say so in the ledger would get all traffic at once."""
    step.refuse_if_retired()
    step.evidence()
    platform, model = step.platform, step.release.model
    now = serving_now(platform, model, "production")
    proven = routed(platform, model, "production")
    if deployment.name not in proven and (now is None or now.body["deployment"] != deployment.name):
        raise GateRefused("production", f"{deployment.name} has lost the share that its canary proved; release again")


def _switched(step: Step, deployment: Deployment, canary: OpenCanary | None) -> Fact:
    """Writes the switch. Raises GateRefused when it was decided before that the traffic goes back: whoever decided it
    moves it, or the sensor of canaries does."""
    key = canary.key if canary is not None and canary.candidate == deployment.name else None
    first = record_switch(step.platform, deployment, "production", step.release.revision, "promoted", key)
    if first.kind != "switched":
        raise GateRefused("production", f"its canary's traffic is taken back: {first.body['reason']}; release again")
    return first
