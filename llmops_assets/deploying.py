"""Putting a registered version behind the gateway: its server, its route, and the fact that says so.

Everything here may be repeated: the same deployment keeps its server, the same table changes nothing, and a fact is
only written when the traffic's target really changes.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_assets.gpus import server_gpus
from llmops_core.errors import EnvironmentLacks, GateRefused, LlmopsError
from llmops_core.facts import Fact, latest
from llmops_core.route_manifest import base_path
from llmops_core.routing import Deployment, Environment, Route, RouteTable, Share
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.serving_settings import LocalServingPlace
from resources.wiring import Platform

if TYPE_CHECKING:
    from llmops_assets.step import Step

READY_LIMIT_SECONDS = 120.0


def public_url(platform: Platform, model: str, environment: Environment) -> str:
    """Where clients reach a model; OpenAI's paths start below it."""
    return f"{platform.gateway_url}{base_path(model, environment)}"


def deploy(step: "Step", environment: Environment) -> Deployment:
    """Starts this release's server for an environment (or finds it running) and returns when it can answer."""
    step.refuse_if_retired()
    platform, place = step.release.platform, step.release.platform.settings.serving
    plan = _plan(step, environment)
    deployment = platform.serving.deploy(plan)
    try:
        step.refuse_if_retired()  # by somebody who did not see this server
    except GateRefused:
        platform.serving.retire(deployment.name)
        raise
    limit_seconds = READY_LIMIT_SECONDS if isinstance(place, LocalServingPlace) else place.ready_seconds
    try:
        platform.serving.wait_ready(deployment, limit_seconds)
    except LlmopsError as error:
        if not isinstance(place, LocalServingPlace) and not step.is_tried_again(error):
            retire_unrouted(platform, deployment.model, deployment.name)
        raise
    return deployment


def _plan(step: "Step", environment: Environment) -> DeploymentPlan:
    release, spec = step.release, step.release.spec
    serving, settings = spec.serving, getattr(release.inputs, environment)
    here = isinstance(release.platform.settings.serving, LocalServingPlace)
    if here and serving.engine != "llama.cpp":
        raise EnvironmentLacks(f"{serving.engine} is served on a Kubernetes cluster, which {environment} here has not")
    if serving.protocol != "http":
        raise EnvironmentLacks(f"{environment} routes HTTP only, and {release.model} asks for {serving.protocol}")
    version, weights = release.evidence()["registered_version"].body, step.artifact("weights")
    fingerprint = release.fingerprints["staging_deployment" if environment == "staging" else "canary"]
    file, gpus = "model.gguf" if serving.engine == "llama.cpp" else ".", server_gpus(release)
    return DeploymentPlan(
        name=f"{release.model}-{environment}-v{version['version']}-{fingerprint[:8]}",
        model=release.model,
        version=version["version"],
        weights_digest=weights.digest,
        # pods fetch the folder by its digest; where that lies in them is theirs to know
        model_file=weights.path / file if here else Path(file),
        alias=f"{release.model}@{version['version']}",
        context_tokens=serving.context_tokens,
        parallel=serving.parallel,
        timeout_seconds=serving.timeout_seconds,
        directory=release.platform.home.repository if here else Path(),
        python=Path(sys.executable) if here else Path("python"),
        engine=serving.engine,
        memory_gb=spec.resources.memory_gb * settings.memory_factor,
        cpu=spec.resources.cpu,
        gpu_count=gpus,
        gpu_type=spec.resources.gpu_type if gpus else None,
        replicas=settings.replicas.minimum,
    )


def retire_unrouted(platform: Platform, model: str, name: str) -> None:
    """Takes a server away that nobody waits for any more, so that it holds no GPUs; what it said is in the error. What
    a route may lead to stays, and what a rollback of production goes back to."""
    try:
        kept = [share.deployment.name for each in platform.gateway.current().routes for share in each.shares]
        now = serving_now(platform, model, "production")
    except LlmopsError:
        return
    if name not in (*kept, now.body["previous"] if now else None):
        platform.serving.retire(name)


def route(
    platform: Platform,
    environment: Environment,
    shares: Sequence[tuple[Deployment, int]],
    permit: Callable[[], object] = lambda: None,
) -> None:
    """Gives each deployment its percentage of the model's requests; those with none get no share at all.

    `permit` is asked while nobody else can change the routes; nothing changes when it raises.
    """
    kept = tuple(Share(deployment=deployment, weight_percent=weight) for deployment, weight in shares if weight > 0)
    new = Route(model=shares[0][0].model, environment=environment, shares=kept)

    def change(table: RouteTable) -> RouteTable:
        permit()
        return table.with_route(new)

    platform.gateway.revise(change)
    platform.gateway.confirm(new.model, environment)


def serving_now(platform: Platform, model: str, environment: Environment) -> Fact | None:
    """The newest switch of an environment's traffic, None where nothing serves."""
    return serving_in(platform.ledger.facts(model), environment)


def serving_in(facts: Sequence[Fact], environment: Environment) -> Fact | None:
    """The same in one model's facts, for who needs several things as of one moment."""
    fact = latest(facts, "switched", subject=environment)
    return fact if fact is not None and fact.body.get("deployment") is not None else None


def production_weights(platform: Platform, model: str) -> str | None:
    """The digest of the weights that serve in production; None where nothing serves."""
    now = serving_now(platform, model, "production")
    return str(now.body["weights_digest"]) if now else None


def deployment_named(platform: Platform, name: str) -> Deployment | None:
    return next((one for one in platform.serving.running() if one.name == name), None)


def record_switch(
    platform: Platform,
    deployment: Deployment,
    environment: Environment,
    revision: str,
    why: str,
    key: str | None = None,
) -> Fact:
    """Writes that an environment's traffic goes to this deployment, unless that is what was written last. Returns the
    fact that says so, or the other one that holds the key."""
    now = serving_now(platform, deployment.model, environment)
    if now is not None and now.body["deployment"] == deployment.name and now.body["state"] == "serving":
        return now
    previous = now.body["deployment"] if now else None
    return platform.ledger.append(
        "switched",
        model=deployment.model,
        subject=environment,
        body={
            "deployment": deployment.name,
            "version": deployment.version,
            "weights_digest": deployment.weights_digest,
            "revision": revision,
            "state": "serving",
            "previous": previous,
            "why": why,
        },
        once=key,
    )


def name_in_registry(platform: Platform, model: str) -> None:
    """Puts the registry's alias on what serves in production. That is asked again when it is done: somebody else may
    have moved the traffic meanwhile, and his alias too."""
    while (now := serving_now(platform, model, "production")) is not None:
        platform.registry.set_alias(model, "production", int(now.body["version"]))
        after = serving_now(platform, model, "production")
        if after is not None and after.body["version"] == now.body["version"]:
            return
    platform.registry.remove_alias(model, "production")


def retire_all_but(platform: Platform, model: str, environment: Environment, keep: Sequence[str | None]) -> None:
    """Ends the model's servers of an environment that neither serve nor stay warm. Also kept is what a rollback, which
    waits for nobody, gave the traffic to meanwhile."""
    for deployment in platform.serving.running():
        ours = deployment.model == model and deployment.name.startswith(f"{model}-{environment}-")
        if ours and deployment.name not in (*keep, *routed(platform, model, environment)):
            platform.serving.retire(deployment.name)


def routed(platform: Platform, model: str, environment: Environment) -> list[str]:
    """The deployments that have a share of an environment's traffic now, as the gateway has it."""
    found = platform.gateway.current().route(model, environment)
    return [share.deployment.name for share in found.shares] if found else []
