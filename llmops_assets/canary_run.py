"""Driving a canary: one tick after another until `llmops_core.canary` says promote or roll back.

A tick reads the gateway's counters, adds what is new since the last tick to the arms, lets core decide, writes the
decision down and then puts its weight in force. A process that dies between any two of these finds its state in the
ledger and goes on; the weight in force is set again from the decision, so nothing is lost or done twice.
"""

import json
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from llmops_assets.canary_arms import Arm, Arms, Reading, arm_in
from llmops_assets.deploying import deploy, deployment_named, public_url, route, serving_now
from llmops_assets.questions import held_out
from llmops_assets.step import Step
from llmops_core.canary import Action, CanaryPolicy, CanaryState, Decision, Stage, advance, begin
from llmops_core.errors import GateRefused, IntegrityError, TransientError
from llmops_core.facts import Fact, latest
from llmops_core.routing import Deployment
from llmops_core.serving_settings import LocalServingPlace
from llmops_core.verdict import Finding, Verdict
from resources.load import PacedLoad
from resources.wiring import Platform

ENDED = {Action.PROMOTE: "passed", Action.ROLL_BACK: "failed"}


def run_canary(step: Step) -> Fact:
    """Runs the canary to its end; the fact's verdict is passed, or failed with the reason."""
    step.evidence()
    platform, model = step.platform, step.release.model
    candidate = deploy(step, "production")
    if (proven := _proof_of_serving(step, candidate)) is not None:
        return step.record(proven.body["digest"], {name: proven.body[name] for name in ("deployment", "reason")})
    baseline = _baseline(step, candidate)
    settings = step.release.inputs.production.canary
    with _traffic(step) as load:
        ticks, decision = _ticks(step, candidate, baseline, load)
    reason = decision.reason
    if decision.action is Action.ROLL_BACK:
        reason = "; ".join([reason, *_restore(step, candidate, baseline)])
    report = {
        "reason": reason,
        "verdict": ENDED[decision.action],
        "candidate": candidate.name,
        "baseline": baseline.name if baseline else None,
        "policy": settings.model_dump(mode="json"),
        "ticks": ticks,
    }
    with step.scratch() as folder:
        (folder / "out").mkdir()
        (folder / "out" / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        artifact = platform.artifacts.publish("canary", folder / "out")
    body = {"deployment": candidate.name, "reason": reason}
    step.context.log.info(f"canary of {model}: {decision.action.value}: {reason}")
    fact = step.record(artifact.digest, body, verdict=ENDED[decision.action])
    if decision.action is Action.ROLL_BACK:
        platform.serving.retire(candidate.name)  # after the record: one that hangs takes half a minute to end
    return fact


def _ticks(
    step: Step, candidate: Deployment, baseline: Deployment | None, load: PacedLoad | None
) -> tuple[list[dict[str, Any]], Decision]:
    """Every tick of this canary, those of a run that died included, and the decision that ended it."""
    settings, policy = step.release.inputs.production.canary, _policy(step)
    deployments = [candidate, *([baseline] if baseline is not None else [])]
    start, ticks = _begun(step, candidate)
    resumed = ticks[-1] if ticks else None
    if start is None:
        start = _start(step, deployments, settings.latency_limit_seconds)
    state = begin(policy, start["began_seconds"], _demanded(step))
    state = CanaryState.model_validate(resumed["state"]) if resumed else state
    known = (resumed or start)["arms"]
    found = [arm_in(known, deployment) for deployment in deployments]
    arms = Arms(step.platform, found, start["counted_since"], settings.latency_limit_seconds)
    weight = state.weight_percent(policy)
    began = len(step.platform.ledger.facts())
    while True:
        _put_in_force(step, candidate, baseline, weight, began)
        if not resumed:
            time.sleep(settings.tick_seconds)
        resumed = None
        state, decision, reading = _judged(step, policy, state, arms, load)
        tick = _tick(state, decision, arms, reading)
        ticks.append(tick)
        step.platform.ledger.append(
            "ticked", model=step.release.model, subject="canary", fingerprint=step.fingerprint, body=tick
        )
        step.context.log.info(f"{decision.action.value} {decision.reason}")
        weight = decision.weight_percent
        if decision.action in ENDED:
            return ticks, decision


def _judged(
    step: Step, policy: CanaryPolicy, state: CanaryState, arms: Arms, load: PacedLoad | None
) -> tuple[CanaryState, Decision, Reading]:
    """What this tick says. Harm is acted on as soon as it is seen. A step forward is judged again when every request of
    our own has ended and all that was counted by then can be read: what is late may be what failed."""
    after, decision, reading = _advanced(step, policy, state, arms)
    if decision.action not in (Action.STEP, Action.PROMOTE) or state.stage is not Stage.RUNNING:
        return after, decision, reading
    if load is not None:
        load.settle()
    late: tuple[Finding, ...] = ()
    try:
        arms.settle()
    except TransientError as error:
        late = (Finding("counts", Verdict.ERROR, str(error)),)
    return _advanced(step, policy, state, arms, *late)


def _advanced(
    step: Step, policy: CanaryPolicy, state: CanaryState, arms: Arms, *late: Finding
) -> tuple[CanaryState, Decision, Reading]:
    reading = arms.read()
    findings = (*reading.findings, *late, *_served(step, arms.arms[0].deployment))
    after, decision = advance(policy, state, reading.candidate, reading.baseline, time.time(), *findings)
    return after, decision, reading


def _policy(step: Step) -> CanaryPolicy:
    settings = step.release.inputs.production.canary
    return CanaryPolicy.model_validate({name: getattr(settings, name) for name in CanaryPolicy.model_fields})


def _proof_of_serving(step: Step, candidate: Deployment) -> Fact | None:
    """The canary that brought this very deployment into production, while it serves there; None otherwise.

    Approvals are bound to a revision, so a commit that changes nothing asks for a canary again. What serves has nobody
    to be compared with, and would lose its traffic for want of proof.
    """
    now = serving_now(step.platform, step.release.model, "production")
    if now is None or now.body["deployment"] != candidate.name:
        return None
    facts = step.platform.ledger.facts(step.release.model)
    proof = latest(facts, "produced", subject="canary", fingerprint=step.fingerprint)
    if proof is None or proof.body["verdict"] != ENDED[Action.PROMOTE] or proof.body["deployment"] != candidate.name:
        raise IntegrityError(f"{candidate.name} serves in production, but no canary proved it")
    return proof


def _refuse_after_a_person(step: Step, began: int) -> None:
    """A rollback and a retirement wait for nobody: the canary ends, and must not give traffic back to what a person
    took it from."""
    step.refuse_if_retired()
    intended = latest(step.platform.ledger.facts(step.release.model), "intended", subject="rollback")
    if intended is not None and intended.sequence > began:
        raise GateRefused("canary", f"production was rolled back meanwhile ({intended.body['reason']}); release again")


def _demanded(step: Step) -> bool:
    return serving_now(step.platform, step.release.model, "production") is not None


def _baseline(step: Step, candidate: Deployment) -> Deployment | None:
    """What the ledger says serves, None for a model's first version. Its server may be lost: as long as the gateway
    still has its route, that is what a failed canary goes back to. Raises GateRefused when nothing is left of it, since
    all traffic would go to a candidate that nothing is compared with."""
    platform, model = step.platform, step.release.model
    now = serving_now(platform, model, "production")
    if now is None or now.body["deployment"] == candidate.name:
        return None
    name, revision = now.body["deployment"], now.body["revision"][:12]
    baseline = deployment_named(platform, name) or _routed(platform, model, name)
    if baseline is None:
        lost = f"{name}, which should serve, has neither a server nor a route"
        raise GateRefused("canary", f"{lost}: hold for a person: {_bring_back(model, revision)}")
    return baseline


def _routed(platform: Platform, model: str, deployment: str) -> Deployment | None:
    route = platform.gateway.current().route(model, "production")
    shares = route.shares if route else ()
    return next((share.deployment for share in shares if share.deployment.name == deployment), None)


def _bring_back(model: str, revision: str) -> str:
    return f"bring it back with `llmops release {model} --revision {revision}`"


def _put_in_force(step: Step, candidate: Deployment, baseline: Deployment | None, weight: int, began: int) -> None:
    """Without a baseline nobody else could answer, so the candidate gets all there is. `began` is the number of the
    newest fact when this canary began."""
    shares = [(candidate, 100)] if baseline is None else [(baseline, 100 - weight), (candidate, weight)]
    route(step.platform, "production", shares, lambda: _refuse_after_a_person(step, began))


def _restore(step: Step, candidate: Deployment, baseline: Deployment | None) -> list[str]:
    """All traffic back to what served before, at once. What a person must know of it."""
    platform, model = step.platform, step.release.model
    if baseline is None:
        platform.gateway.revise(lambda table: table.without_route(model, "production"))
        told = ["no version served before, so none does now"]
    else:
        route(platform, "production", [(baseline, 100)])
        told = _silent_baseline(step, baseline)
    return told


def _silent_baseline(step: Step, baseline: Deployment) -> list[str]:
    health = step.platform.serving.health(baseline.name)
    now = serving_now(step.platform, step.release.model, "production")
    if health.verdict is Verdict.PASSED or now is None:
        return []
    silent = f"{baseline.name}, which has all traffic again, does not answer either ({health.reason})"
    return [f"{silent}: hold for a person: {_bring_back(step.release.model, now.body['revision'][:12])}"]


def _served(step: Step, candidate: Deployment) -> tuple[Finding, ...]:
    """Whether anybody answers for the candidate. Pods count their own requests: with none of them ready the gateway
    turns its share away, and no count says so. On one machine the gateway counts these too."""
    if isinstance(step.platform.settings.serving, LocalServingPlace):
        return ()
    return (step.platform.serving.health(candidate.name),)


def _begun(step: Step, candidate: Deployment) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """(how this candidate's canary began, its ticks) if it has begun and not ended."""
    start: dict[str, Any] | None = None
    ticks: list[dict[str, Any]] = []
    for fact in step.platform.ledger.facts(step.release.model):
        if fact.subject != "canary" or fact.fingerprint != step.fingerprint:
            continue
        if fact.kind == "produced":
            start, ticks = None, []
        elif fact.body.get("candidate") == candidate.name and fact.kind == "intended":
            start = fact.body
        elif fact.body.get("candidate") == candidate.name and fact.kind == "ticked":
            ticks.append(fact.body)
    return start, ticks


def _start(step: Step, deployments: list[Deployment], limit_seconds: float) -> dict[str, Any]:
    """Writes down when this canary begins, before it moves any traffic: nothing that was answered before is evidence,
    and all that is answered after it is, whatever process reads it. Raises TransientError when nobody can count."""
    since = step.platform.metrics.now()
    before = step.platform.metrics.counts(since)
    arms = [Arm(deployment, before.get(deployment.name)) for deployment in deployments]
    body = {
        "candidate": deployments[0].name,
        "began_seconds": time.time(),
        "counted_since": since,
        "arms": Arms(step.platform, arms, since, limit_seconds).as_dict(),
    }
    model, fingerprint = step.release.model, step.fingerprint
    return step.platform.ledger.append(
        "intended", model=model, subject="canary", fingerprint=fingerprint, body=body
    ).body


def _tick(state: CanaryState, decision: Decision, arms: Arms, reading: Reading) -> dict[str, Any]:
    candidate = arms.arms[0]
    return {
        **decision.as_dict(),
        "candidate": candidate.deployment.name,
        "seconds": round(state.seen_seconds - state.began_seconds, 3),
        "requests": candidate.counts.requests,
        "failures": candidate.counts.failures,
        "state": state.model_dump(mode="json"),
        "arms": arms.as_dict(),
        "pods": reading.pods,
    }


def _traffic(step: Step) -> AbstractContextManager[PacedLoad | None]:
    """Requests of our own, labelled as such, where the environment asks for them; else only what users send."""
    per_second = step.release.inputs.production.canary.synthetic_requests_per_second
    if not per_second:
        return nullcontext()
    url = f"{public_url(step.platform, step.release.model, 'production')}/v1/chat/completions"
    timeout = step.release.spec.serving.timeout_seconds + 1
    step.context.log.info(f"sending {per_second:g} labelled requests a second of our own")
    bodies = [question.body for question in held_out(step)]
    return PacedLoad(url, bodies, per_second, timeout_seconds=timeout)
