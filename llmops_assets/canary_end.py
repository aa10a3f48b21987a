"""The way back from a canary, for its own run, for a person and for the sensor that finds one without a run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from llmops_assets.deploying import deployment_named, route, serving_in, serving_now
from llmops_core.errors import GateRefused, TransientError
from llmops_core.facts import Fact, latest
from llmops_core.open_canary import OpenCanary, open_canary
from llmops_core.routing import Deployment, Route, RouteTable, Share
from llmops_core.verdict import Verdict
from resources.wiring import Platform


def baseline_of(platform: Platform, model: str, candidate: str) -> Deployment | None:
    """What the ledger says serves, None for a model's first version. Its server may be lost: as long as the gateway
    still has its route, that is what a failed canary goes back to. Raises GateRefused when nothing is left of it, since
    all traffic would go to a candidate that nothing is compared with."""
    now = serving_now(platform, model, "production")
    if now is None or now.body["deployment"] == candidate:
        return None
    name, revision = now.body["deployment"], now.body["revision"][:12]
    baseline = deployment_named(platform, name) or _routed(platform, model, name)
    if baseline is None:
        lost = f"{name}, which should serve, has neither a server nor a route"
        raise GateRefused("canary", f"{lost}: hold for a person: {_bring_back(model, revision)}")
    return baseline


def give_back(platform: Platform, model: str, baseline: Deployment | None, permit: Callable[[], object]) -> list[str]:
    """All traffic to what served before, at once. What a person must know of it. `permit` as in `deploying.route`."""
    if baseline is not None:
        route(platform, "production", [(baseline, 100)], permit)
        return _silent_baseline(platform, baseline)

    def change(table: RouteTable) -> RouteTable:
        permit()
        return table.without_route(model, "production")

    platform.gateway.revise(change)
    return ["no version served before, so none does now"]


def refuse_unless_open(canary: Fact, facts: Sequence[Fact]) -> OpenCanary:
    """Raises GateRefused when, as the model's facts say, somebody else ended the canary that began with this one: its
    traffic is theirs."""
    now = open_canary(facts)
    if now is None or now.start.sequence != canary.sequence:
        raise GateRefused("canary", f"the canary of {canary.body['candidate']} was ended meanwhile; release again")
    return now


def rolling_back_to(facts: Sequence[Fact]) -> str | None:
    """The deployment to which a rollback moved all traffic, or was about to, when it broke off."""
    begun, now = latest(facts, "intended", subject="rollback"), serving_in(facts, "production")
    if begun is None or now is None or begun.sequence < now.sequence:
        return None
    to = begun.body["deployment"]
    return to if to != now.body["deployment"] else None


def refuse_before_rollback(platform: Platform, model: str) -> None:
    """Raises GateRefused while a person's rollback has moved the traffic and is not written down: a canary would share
    it with the version that was left."""
    to = rolling_back_to(platform.ledger.facts(model))
    if to is not None and _routed(platform, model, to) is not None:
        again = f"`llmops rollback {model}` goes on with it"
        raise GateRefused("canary", f"the rollback to {to} did not come to its end; {again}, then release again")


def decide_way_back(platform: Platform, canary: OpenCanary, subject: str, body: Mapping[str, Any]) -> None:
    """Writes that its traffic goes back, before any does: from then on nobody promotes it, nor gives it any. That a
    person wants it is written also when it was decided before. Raises GateRefused when it was promoted first."""
    told = {**body, "rolled_back": canary.candidate}
    append, model = platform.ledger.append, canary.start.model
    first = append("intended", model=model, subject=subject, body=told, once=canary.key)
    if first.kind == "switched":
        raise GateRefused("canary", f"{canary.candidate} was promoted meanwhile")
    if subject == "rollback" and first.body != told:
        append("intended", model=model, subject=subject, body=told)


def leave_nothing(platform: Platform, model: str, candidate: str) -> None:
    """Takes the candidate a share that it was given while somebody else ended its canary. No other canary's traffic is
    touched, nor that of a candidate that was promoted."""

    def change(table: RouteTable) -> RouteTable:
        found, facts = table.route(model, "production"), platform.ledger.facts(model)
        if found is None or candidate not in {share.deployment.name for share in found.shares}:
            return table
        baseline = baseline_of(platform, model, candidate)
        now = latest(facts, "switched", subject="production")
        if open_canary(facts) is not None or (now is not None and now.body.get("deployment") == candidate):
            return table
        if baseline is None:
            return table.without_route(model, "production")
        whole = Share(deployment=baseline, weight_percent=100)
        return table.with_route(Route(model=model, environment="production", shares=(whole,)))

    platform.gateway.revise(change)


def share_left(platform: Platform, canary: OpenCanary) -> int:
    """The greatest percentage that the candidate may still have; as it was when the ledger could be read last."""
    with suppress(TransientError):
        now = open_canary(platform.ledger.facts(canary.start.model))
        return now.share_percent if now is not None else canary.share_percent
    return canary.share_percent


def tell(
    platform: Platform, canary: OpenCanary, left_percent: int, reason: str, revision: str, run_id: str = ""
) -> Fact:
    """Writes what is left of a canary's share after its run; with nothing left the canary has ended."""
    told = {"reason": reason, "revision": revision, "run_id": run_id}
    return platform.ledger.append(
        "refused",
        model=canary.start.model,
        subject="canary",
        fingerprint=canary.start.fingerprint,
        body={**told, "candidate": canary.candidate, "left_percent": left_percent},
    )


def _routed(platform: Platform, model: str, deployment: str) -> Deployment | None:
    found = platform.gateway.current().route(model, "production")
    shares = found.shares if found else ()
    return next((share.deployment for share in shares if share.deployment.name == deployment), None)


def _bring_back(model: str, revision: str) -> str:
    return f"bring it back with `llmops release {model} --revision {revision}`"


def _silent_baseline(platform: Platform, baseline: Deployment) -> list[str]:
    try:
        health = platform.serving.health(baseline.name)
        now = serving_now(platform, baseline.model, "production")
    except TransientError as error:
        return [f"whether {baseline.name}, which has all traffic again, answers is not known: {error}"]
    if health.verdict is Verdict.PASSED or now is None:
        return []
    silent = f"{baseline.name}, which has all traffic again, does not answer either ({health.reason})"
    return [f"{silent}: hold for a person: {_bring_back(baseline.model, now.body['revision'][:12])}"]
