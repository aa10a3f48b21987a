"""Driving a canary: one tick after another until `llmops_core.canary` says promote or roll back.

A tick reads the gateway's counters, adds what is new since the last tick to the arms, lets core decide, writes the
decision down and then puts its weight in force. A process that dies between any two of these finds its state in the
ledger and goes on; the weight in force is set again from the decision, so nothing is lost or done twice.

A door that is away for a while makes a tick without evidence, which is told and tried again until the step's time is
over; then the canary rolls back. Whatever else ends the run, a cancellation included, gives the traffic back and says
so in the ledger, or says what share was left. What died without a word is found by llmops_assets/sensors/canaries.py.
"""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from llmops_assets.canary_arms import Arm, Arms, Reading, arm_in
from llmops_assets.canary_end import (
    baseline_of,
    give_back,
    leave_nothing,
    refuse_before_rollback,
    refuse_unless_open,
    share_left,
    tell,
)
from llmops_assets.deploying import deploy, public_url, route, serving_now
from llmops_assets.questions import held_out
from llmops_assets.step import Step
from llmops_core.canary import Action, CanaryPolicy, CanaryState, Decision, Stage, advance, begin
from llmops_core.errors import GateRefused, IntegrityError, LlmopsError, TransientError
from llmops_core.facts import Fact, latest
from llmops_core.open_canary import OpenCanary, open_canary
from llmops_core.routing import Deployment
from llmops_core.serving_settings import LocalServingPlace
from llmops_core.verdict import Finding, Verdict
from resources.traffic.load import PacedLoad

ENDED = {Action.PROMOTE: "passed", Action.ROLL_BACK: "failed"}


def run_canary(step: Step) -> Fact:
    """Runs the canary to its end; the fact's verdict is passed, or failed with the reason."""
    step.evidence()
    step.refuse_before_dependencies()
    platform, model = step.platform, step.release.model
    candidate = deploy(step, "production")
    if (proven := _proof_of_serving(step, candidate)) is not None:
        return step.record(proven.body["digest"], {name: proven.body[name] for name in ("deployment", "reason")})
    refuse_before_rollback(platform, model)
    baseline = baseline_of(platform, model, candidate.name)
    canary = _begun(step, candidate) or _begin(step, candidate, baseline)
    with _given_back(step, baseline, canary):
        with _traffic(step) as load:
            ticks, decision = _ticks(step, candidate, baseline, load, canary)
        reason = decision.reason
        if decision.action is Action.ROLL_BACK:
            reason = "; ".join([reason, *_restore(step, baseline, canary)])
        report = {
            "reason": reason,
            "verdict": ENDED[decision.action],
            "candidate": candidate.name,
            "baseline": baseline.name if baseline else None,
            "policy": step.release.inputs.production.canary.model_dump(mode="json"),
            "ticks": ticks,
        }
        fact = _recorded(step, report)
    step.context.log.info(f"canary of {model}: {decision.action.value}: {reason}")
    if decision.action is Action.ROLL_BACK:
        platform.serving.retire(candidate.name)  # after the record: one that hangs takes half a minute to end
    return fact


def _recorded(step: Step, report: dict[str, Any]) -> Fact:
    with step.scratch() as folder:
        (folder / "out").mkdir()
        (folder / "out" / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        artifact = step.platform.artifacts.publish("canary", folder / "out")
    body = {"deployment": report["candidate"], "reason": report["reason"]}
    return step.record(artifact.digest, body, verdict=report["verdict"])


@contextmanager
def _given_back(step: Step, baseline: Deployment | None, canary: OpenCanary) -> Iterator[None]:
    """Whatever ends the run in here leaves no share of production behind, and the ledger says what became of it."""
    try:
        yield
    except BaseException as error:  # a cancelled run raises none of our errors
        _give_up(step, baseline, canary, error)
        raise


def _give_up(step: Step, baseline: Deployment | None, canary: OpenCanary, error: BaseException) -> None:
    why, left = str(error) or type(error).__name__, 0
    try:
        told = "; ".join(["the traffic was given back", *_restore(step, baseline, canary)])
    except GateRefused:  # a person or the sensor ended the canary, and the traffic is theirs
        with suppress(LlmopsError):
            leave_nothing(step.platform, step.release.model, canary.candidate)
        return
    except Exception as lost:  # noqa: BLE001 (nor must a defect hide why the canary ended)
        left = share_left(step.platform, canary)
        told = f"canary left at {left} %: {lost}"
    error.add_note(told)
    step.context.log.error(f"canary of {step.release.model}: {why}; {told}")
    with suppress(TransientError):  # without the ledger the sensor finds this canary by its ticks
        tell(step.platform, canary, left, f"{why}; {told}", step.release.revision, step.context.run.run_id)


def _ticks(
    step: Step, candidate: Deployment, baseline: Deployment | None, load: PacedLoad | None, canary: OpenCanary
) -> tuple[list[dict[str, Any]], Decision]:
    """Every tick of this canary, those of a run that died included, and the decision that ended it."""
    settings, policy = step.release.inputs.production.canary, _policy(step)
    start, ticks = canary.start.body, list(canary.ticks)
    known = ticks[-1] if ticks else start
    state = begin(policy, start["began_seconds"], _demanded(step))
    state = CanaryState.model_validate(ticks[-1]["state"]) if ticks else state
    found = [arm_in(known["arms"], deployment) for deployment in _deployments(candidate, baseline)]
    arms = Arms(step.platform, found, start["counted_since"], settings.latency_limit_seconds)
    weight, resumed = state.weight_percent(policy), bool(ticks)
    if resumed:
        _refuse_after_a_person(step, canary)
    while True:
        late: tuple[Finding, ...] = ()
        if not resumed:  # what was missed is judged before the candidate gets anything again
            late = _put_in_force(step, candidate, baseline, weight, canary)
            time.sleep(settings.tick_seconds)
        resumed = False
        after, decision, reading = _judged(step, policy, state, arms, load, *late)
        tick = _tick(after, decision, arms, reading)
        step.context.log.info(f"{decision.action.value} {decision.reason}")
        if not _written(step, tick) and decision.action is not Action.ROLL_BACK:
            continue  # as if this tick had not been: the next one holds what it counted
        ticks.append(tick)
        state, weight = after, decision.weight_percent
        if decision.action in ENDED:
            return ticks, decision


def _written(step: Step, tick: dict[str, Any]) -> bool:
    model, fingerprint = step.release.model, step.fingerprint
    try:
        step.platform.ledger.append("ticked", model=model, subject="canary", fingerprint=fingerprint, body=tick)
    except TransientError as error:
        step.context.log.warning(f"this tick could not be written: {error}")
        return False
    return True


def _judged(
    step: Step, policy: CanaryPolicy, state: CanaryState, arms: Arms, load: PacedLoad | None, *late: Finding
) -> tuple[CanaryState, Decision, Reading]:
    """What this tick says. Harm is acted on as soon as it is seen. A step forward is judged again when every request of
    our own has ended and all that was counted by then can be read: what is late may be what failed."""
    after, decision, reading = _advanced(step, policy, state, arms, *late)
    if decision.action not in (Action.STEP, Action.PROMOTE) or state.stage is not Stage.RUNNING:
        return after, decision, reading
    if load is not None:
        load.settle()
    try:
        arms.settle()
    except TransientError as error:
        late = (*late, Finding("counts", Verdict.ERROR, str(error)))
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


def _refuse_after_a_person(step: Step, canary: OpenCanary) -> None:
    """A rollback and a retirement wait for nobody: the canary ends, and must not give traffic back to what a person
    took it from."""
    step.refuse_if_retired()
    facts = step.platform.ledger.facts(step.release.model)
    intended = latest(facts, "intended", subject="rollback")
    if intended is not None and intended.sequence > canary.start.sequence:
        raise GateRefused("canary", f"production was rolled back meanwhile ({intended.body['reason']}); release again")
    if refuse_unless_open(canary.start, facts).goes_back:
        raise GateRefused("canary", f"all traffic of {canary.candidate} is taken back; release again")


def _demanded(step: Step) -> bool:
    return serving_now(step.platform, step.release.model, "production") is not None


def _put_in_force(
    step: Step, candidate: Deployment, baseline: Deployment | None, weight: int, canary: OpenCanary
) -> tuple[Finding, ...]:
    """Without a baseline nobody else could answer, so the candidate gets all there is. A share that could not be set
    proves nothing; it is set again at the next tick."""
    shares = [(candidate, 100)] if baseline is None else [(baseline, 100 - weight), (candidate, weight)]
    try:
        route(step.platform, "production", shares, lambda: _refuse_after_a_person(step, canary))
    except TransientError as error:
        return (Finding("share", Verdict.ERROR, f"its share of the traffic could not be set: {error}"),)
    return ()


def _restore(step: Step, baseline: Deployment | None, canary: OpenCanary) -> list[str]:
    """All traffic back to what served before, at once. What a person must know of it."""

    def permit() -> None:
        with suppress(TransientError):  # a ledger that is away must not keep the candidate its traffic
            refuse_unless_open(canary.start, step.platform.ledger.facts(step.release.model))

    return give_back(step.platform, step.release.model, baseline, permit)


def _served(step: Step, candidate: Deployment) -> tuple[Finding, ...]:
    """Whether anybody answers for the candidate. Pods count their own requests: with none of them ready the gateway
    turns its share away, and no count says so. On one machine the gateway counts these too."""
    if isinstance(step.platform.settings.serving, LocalServingPlace):
        return ()
    try:
        return (step.platform.serving.health(candidate.name),)
    except TransientError as error:
        return (Finding("server", Verdict.ERROR, f"whether {candidate.name} has a server is not known: {error}"),)


def _deployments(candidate: Deployment, baseline: Deployment | None) -> list[Deployment]:
    return [candidate] if baseline is None else [candidate, baseline]


def _begun(step: Step, candidate: Deployment) -> OpenCanary | None:
    """This candidate's canary if it has begun and not been judged to its end."""
    canary = open_canary(step.platform.ledger.facts(step.release.model))
    if canary is None or canary.has_passed or canary.goes_back:
        return None
    return canary if (canary.start.fingerprint, canary.candidate) == (step.fingerprint, candidate.name) else None


def _begin(step: Step, candidate: Deployment, baseline: Deployment | None) -> OpenCanary:
    """Writes down when this canary begins, before it moves any traffic: nothing that was answered before is evidence,
    and all that is answered after it is, whatever process reads it. Raises TransientError when nobody can count."""
    settings, platform = step.release.inputs.production.canary, step.platform
    since = platform.metrics.now()
    before = platform.metrics.counts(since)
    arms = [Arm(deployment, before.get(deployment.name)) for deployment in _deployments(candidate, baseline)]
    body = {
        "candidate": candidate.name,
        "version": candidate.version,
        "revision": step.release.revision,
        "weights_bytes": step.bytes_of("weights"),  # at least as much is hashed by its promotion
        "share_percent": settings.steps_percent[0] if baseline is not None else 100,
        "began_seconds": time.time(),
        "counted_since": since,
        "arms": Arms(platform, arms, since, settings.latency_limit_seconds).as_dict(),
    }
    model, fingerprint = step.release.model, step.fingerprint
    start = platform.ledger.append("intended", model=model, subject="canary", fingerprint=fingerprint, body=body)
    return OpenCanary(start, seen_at=start.at)


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
