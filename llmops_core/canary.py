"""The canary: more and more of the traffic for the candidate, each step on proof, back at once on proven harm.

`advance` is pure. It takes the state and the counts *since the canary began* of both arms, and returns the next state
and a decision. Whatever the caller did or did not do in between, it then puts `decision.weight_percent` in force: the
decision names the weight that should hold now, not a change to make, so a tick that is repeated, or a process killed
between deciding and acting, does no harm. Ticks that arrive late (older than the last one judged) change nothing.

Counts that went backwards were reset or are another arm's; nothing after that can be trusted, and the candidate goes
back. A step whose time is over without proof goes back too: not enough evidence is not a pass.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from llmops_core.arm_comparison import Comparison
from llmops_core.canary_evidence import Evidence, weigh
from llmops_core.canary_policy import ArmCounts, CanaryPolicy
from llmops_core.errors import IntegrityError
from llmops_core.fingerprint import digest_of
from llmops_core.verdict import Finding, Verdict, overall, reasons

__all__ = ["TRANSITIONS", "Action", "ArmCounts", "CanaryPolicy", "CanaryState", "Decision", "Stage", "advance", "begin"]


class Stage(StrEnum):
    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Action(StrEnum):
    HOLD = "hold"
    STEP = "step"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


class Ruling(StrEnum):
    """What the evidence of one tick says, the first that applies."""

    UNTRUSTED = "untrusted"
    HARM = "harm"
    PROVEN = "proven"
    PROVEN_AT_LAST = "proven_at_last"
    TIME_OVER = "time_over"
    OPEN = "open"


# Every move a canary can make. What has ended is never judged again; it repeats its decision, for a caller that died.
TRANSITIONS: dict[tuple[Stage, Ruling], tuple[Action, Stage]] = {
    (Stage.RUNNING, Ruling.UNTRUSTED): (Action.ROLL_BACK, Stage.ROLLED_BACK),
    (Stage.RUNNING, Ruling.HARM): (Action.ROLL_BACK, Stage.ROLLED_BACK),
    (Stage.RUNNING, Ruling.PROVEN): (Action.STEP, Stage.RUNNING),
    (Stage.RUNNING, Ruling.PROVEN_AT_LAST): (Action.PROMOTE, Stage.PROMOTED),
    (Stage.RUNNING, Ruling.TIME_OVER): (Action.ROLL_BACK, Stage.ROLLED_BACK),
    (Stage.RUNNING, Ruling.OPEN): (Action.HOLD, Stage.RUNNING),
    (Stage.PROMOTED, Ruling.OPEN): (Action.PROMOTE, Stage.PROMOTED),
    (Stage.ROLLED_BACK, Ruling.OPEN): (Action.ROLL_BACK, Stage.ROLLED_BACK),
}


class CanaryState(BaseModel):
    """All that a canary remembers between ticks; `model_dump_json` and `model_validate_json` keep it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_digest: str
    baseline_demanded: bool
    stage: Stage = Stage.RUNNING
    step: int = Field(default=0, ge=0)
    began_seconds: float
    step_began_seconds: float
    seen_seconds: float
    candidate_seen: ArmCounts = ArmCounts()
    candidate_at_step: ArmCounts = ArmCounts()
    candidate_compared: ArmCounts = ArmCounts()
    baseline_seen: ArmCounts = ArmCounts()
    baseline_at_step: ArmCounts = ArmCounts()
    errors_compared: Comparison = Comparison()
    slow_compared: Comparison = Comparison()
    conclusion: str = ""

    def weight_percent(self, policy: CanaryPolicy) -> int:
        """The candidate's share of the traffic that belongs to this state."""
        if self.stage is Stage.RUNNING:
            return policy.steps_percent[self.step]
        return 100 if self.stage is Stage.PROMOTED else 0


@dataclass(frozen=True)
class Decision:
    """`reason` is a sentence for people; `weight_percent` is what the gateway should give the candidate now."""

    action: Action
    weight_percent: int
    reason: str
    findings: tuple[Finding, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "action": self.action.value,
            "weight_percent": self.weight_percent,
            "reason": self.reason,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def begin(policy: CanaryPolicy, now_seconds: float, baseline_demanded: bool = True) -> CanaryState:
    """The state before the first tick. Only a model's first version, with none in production, has no baseline.

    Raises ValueError for a step of 100 % beside a demanded baseline, which would get no requests to be compared with.
    """
    _refuse_no_time(now_seconds)
    if baseline_demanded and policy.steps_percent[-1] == 100:
        raise ValueError("a step of 100 % leaves the baseline no requests, so the canary could never pass it")
    return CanaryState(
        policy_digest=_digest(policy),
        baseline_demanded=baseline_demanded,
        began_seconds=now_seconds,
        step_began_seconds=now_seconds,
        seen_seconds=now_seconds,
    )


def advance(
    policy: CanaryPolicy,
    state: CanaryState,
    candidate: ArmCounts,
    baseline: ArmCounts | None,
    now_seconds: float,
    *others: Finding,
) -> tuple[CanaryState, Decision]:
    """Judges one tick. `baseline` is None where its counts could not be read. `others` are findings about the counts:
    whether the candidate has a server at all where nobody counts what none answers, and whether all counts are there.

    Raises IntegrityError for another policy than the canary began with: the proof would be of something else.
    """
    _refuse_no_time(now_seconds)
    if state.policy_digest != _digest(policy):
        raise IntegrityError("the canary's policy changed while it was running: begin a new canary")
    if state.stage is not Stage.RUNNING or now_seconds < state.seen_seconds:
        return _move(policy, state, Ruling.OPEN, (), now_seconds)
    elapsed = now_seconds - state.step_began_seconds
    lost = _gone_backwards(state, candidate, baseline)
    torn = "" if lost else _torn(state, candidate, baseline)
    if lost or torn:
        seen, findings = state, (Finding("counts", Verdict.ERROR, lost or torn),)
    else:
        seen = _take_in(policy, state, candidate, baseline, now_seconds)
        findings = weigh(policy, _evidence(seen, baseline is not None))
    findings = (*findings, *others)
    ruling = Ruling.UNTRUSTED if lost else _rule(policy, state, findings, elapsed)
    if ruling is Ruling.TIME_OVER:
        told = f"{elapsed:.0f} s passed in this step without proof, and not enough evidence is not a pass"
        findings = (*findings, Finding("time", Verdict.INCONCLUSIVE, told, elapsed, policy.max_seconds_per_step))
    return _move(policy, seen, ruling, findings, now_seconds)


def _rule(policy: CanaryPolicy, state: CanaryState, findings: tuple[Finding, ...], elapsed_seconds: float) -> Ruling:
    verdict = overall(findings)
    if verdict is Verdict.FAILED:
        return Ruling.HARM
    if verdict is Verdict.PASSED:
        return Ruling.PROVEN_AT_LAST if state.step + 1 == len(policy.steps_percent) else Ruling.PROVEN
    return Ruling.TIME_OVER if elapsed_seconds >= policy.max_seconds_per_step else Ruling.OPEN


def _move(
    policy: CanaryPolicy, state: CanaryState, ruling: Ruling, findings: tuple[Finding, ...], now_seconds: float
) -> tuple[CanaryState, Decision]:
    action, stage = TRANSITIONS[state.stage, ruling]
    reason = _reason(policy, state, action, findings)
    after = state
    if action is Action.STEP:
        after = state.model_copy(
            update={
                "step": state.step + 1,
                "step_began_seconds": now_seconds,
                "candidate_at_step": state.candidate_seen,
                "baseline_at_step": state.baseline_seen,
                "errors_compared": Comparison(),
                "slow_compared": Comparison(),
            }
        )
    elif stage is not state.stage:
        after = state.model_copy(update={"stage": stage, "conclusion": reason})
    return after, Decision(action, after.weight_percent(policy), reason, findings)


def _reason(policy: CanaryPolicy, state: CanaryState, action: Action, findings: tuple[Finding, ...]) -> str:
    if state.conclusion:
        return state.conclusion
    weight = f"at {state.weight_percent(policy)} % of the traffic"
    if not findings:
        return f"{weight}: this tick is older than the last one judged"
    if action in (Action.STEP, Action.PROMOTE):
        return f"{weight} safety is proven: " + "; ".join(finding.reason for finding in findings)
    harm = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    return f"{weight}: {reasons(harm or findings)}"


def _take_in(
    policy: CanaryPolicy, state: CanaryState, candidate: ArmCounts, baseline: ArmCounts | None, now_seconds: float
) -> CanaryState:
    """The state with this tick's counts. Without the baseline's the comparison waits, so that the arms stay in step."""
    update: dict[str, object] = {"seen_seconds": now_seconds, "candidate_seen": candidate}
    if baseline is not None:
        ours, theirs = candidate.since(state.candidate_compared), baseline.since(state.baseline_seen)
        failures = (ours.requests, ours.failures), (theirs.requests, theirs.failures)
        slow = (ours.requests, ours.slow), (theirs.requests, theirs.slow)
        update["candidate_compared"], update["baseline_seen"] = candidate, baseline
        update["errors_compared"] = state.errors_compared.observe(*failures, policy.error_margin)
        update["slow_compared"] = state.slow_compared.observe(*slow, policy.slow_margin)
    return state.model_copy(update=update)


def _evidence(state: CanaryState, baseline_known: bool) -> Evidence:
    return Evidence(
        candidate=state.candidate_seen.since(state.candidate_at_step),
        baseline=state.baseline_seen.since(state.baseline_at_step) if baseline_known else None,
        baseline_demanded=state.baseline_demanded,
        errors_compared=state.errors_compared,
        slow_compared=state.slow_compared,
    )


def _gone_backwards(state: CanaryState, candidate: ArmCounts, baseline: ArmCounts | None) -> str:
    for name, before, now in _arms(state, candidate, baseline):
        if now.requests < before.requests or now.failures < before.failures or now.slow < before.slow:
            return f"the {name}'s counts went backwards, from {before} to {now}: they were reset or are another arm's"
    return ""


def _torn(state: CanaryState, candidate: ArmCounts, baseline: ArmCounts | None) -> str:
    """Counters read while a request was between two of them: the tick is left out, a later one will hold it whole."""
    for name, before, now in _arms(state, candidate, baseline):
        if not now.failures - before.failures <= now.slow - before.slow <= now.requests - before.requests:
            return f"the {name}'s counts do not fit together: from {before} to {now}"
    return ""


def _arms(
    state: CanaryState, candidate: ArmCounts, baseline: ArmCounts | None
) -> tuple[tuple[str, ArmCounts, ArmCounts], ...]:
    theirs = state.baseline_seen if baseline is None else baseline
    return ("candidate", state.candidate_seen, candidate), ("baseline", state.baseline_seen, theirs)


def _digest(policy: CanaryPolicy) -> str:
    return digest_of(policy.model_dump(mode="json"))


def _refuse_no_time(now_seconds: float) -> None:
    if not math.isfinite(now_seconds):
        raise ValueError(f"{now_seconds} is no time")
