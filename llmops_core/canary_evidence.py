"""What the counts of a canary mean: one finding for each thing demanded (the theory stands in `canary_policy`).

FAILED is proven harm. PASSED is what a step must have of every finding. All else, a missing baseline among it, is not
enough to go on.
"""

from dataclasses import dataclass

from llmops_core.arm_comparison import Comparison
from llmops_core.canary_policy import ArmCounts, CanaryPolicy
from llmops_core.sequential import log_evidence_above, log_evidence_below, proves
from llmops_core.verdict import Finding, Verdict

_HARM_TESTS = 4  # errors and slowness, each against its limit and against the baseline


@dataclass(frozen=True)
class Evidence:
    """All that is known at one tick of the current step, counted since it began. No `baseline`: none could be read."""

    candidate: ArmCounts
    baseline: ArmCounts | None
    baseline_demanded: bool
    errors_compared: Comparison
    slow_compared: Comparison


def weigh(policy: CanaryPolicy, evidence: Evidence) -> tuple[Finding, ...]:
    """Every finding of this tick. All PASSED: the step is proven safe. Any FAILED: harm is proven."""
    step, baseline = evidence.candidate, evidence.baseline
    errors = _Rate("errors", "failed", policy.max_error_rate, policy.immediate_error_rate, policy.error_margin)
    slow = _Rate("slowness", "were too slow", policy.max_slow_rate, policy.immediate_slow_rate, policy.slow_margin)
    findings = [
        _judge_traffic(policy, step),
        _judge_rate(policy, errors, step.requests, step.failures),
        _judge_rate(policy, slow, step.requests, step.slow),
    ]
    if baseline is None:
        if evidence.baseline_demanded:
            findings.append(Finding("baseline", Verdict.ERROR, "no counts of the version in production"))
        return tuple(findings)
    pairs = (errors, evidence.errors_compared, step.failures, baseline.failures)
    slow_pairs = (slow, evidence.slow_compared, step.slow, baseline.slow)
    for rate, compared, bad, baseline_bad in (pairs, slow_pairs):
        arms = (step.requests, bad), (baseline.requests, baseline_bad)
        findings.append(_judge_against_baseline(policy, rate, compared, *arms))
    return tuple(findings)


@dataclass(frozen=True)
class _Rate:
    name: str
    happened: str
    limit: float
    intolerable: float
    margin: float

    def told(self, requests: int, bad: int) -> str:
        return f"{bad} of {requests} requests {self.happened} ({_share(bad, requests)})"


def _judge_traffic(policy: CanaryPolicy, step: ArmCounts) -> Finding:
    needed = policy.min_requests_per_step
    figures = {"value": float(step.requests), "limit": float(needed)}
    if step.requests == 0:
        return Finding("traffic", Verdict.ERROR, "no request has reached the candidate in this step", 0.0, needed)
    if step.requests < needed:
        told = f"{step.requests} of at least {needed} requests in this step"
        return Finding("traffic", Verdict.INCONCLUSIVE, told, **figures)
    return Finding("traffic", Verdict.PASSED, f"{step.requests} requests in this step", **figures)


def _judge_rate(policy: CanaryPolicy, rate: _Rate, requests: int, bad: int) -> Finding:
    told = f"{rate.told(requests, bad)} in this step"
    if proves(log_evidence_above(requests, bad, rate.limit), _alpha_of_a_harm_test(policy)):
        verdict, reason = Verdict.FAILED, f"{told}: more than {_percent(rate.limit)} is proven"
    elif not proves(log_evidence_below(requests, bad, rate.intolerable), policy.alpha):
        verdict, reason = Verdict.INCONCLUSIVE, f"{told}: less than {_percent(rate.intolerable)} is not proven yet"
    elif bad > rate.limit * requests:
        verdict, reason = Verdict.INCONCLUSIVE, f"{told}: above {_percent(rate.limit)}, though harm is not proven"
    else:
        verdict, reason = Verdict.PASSED, f"{told}: less than {_percent(rate.intolerable)} is proven"
    return Finding(rate.name, verdict, reason, _value(requests, bad), rate.limit)


def _alpha_of_a_harm_test(policy: CanaryPolicy) -> float:
    return policy.alpha / _HARM_TESTS / len(policy.steps_percent)


def _judge_against_baseline(
    policy: CanaryPolicy, rate: _Rate, compared: Comparison, candidate: tuple[int, int], baseline: tuple[int, int]
) -> Finding:
    name = f"{rate.name}_against_baseline"
    told = f"{_share(candidate[1], candidate[0])} against {_share(baseline[1], baseline[0])} in this step"
    value = _value(*candidate), _value(*baseline)
    difference = None if value[0] is None or value[1] is None else value[0] - value[1]
    if proves(compared.log_evidence(), _alpha_of_a_harm_test(policy)):
        verdict, reason = Verdict.FAILED, f"{told}: worse by more than {_percent(rate.margin)} is proven"
    elif min(candidate[0], baseline[0]) < policy.min_requests_per_step:
        verdict, reason = Verdict.INCONCLUSIVE, f"{told}: {candidate[0]} and {baseline[0]} requests are too few"
    else:
        verdict, reason = Verdict.PASSED, f"{told}: worse by more than {_percent(rate.margin)} is not proven"
    return Finding(name, verdict, reason, difference, rate.margin)


def _value(requests: int, bad: int) -> float | None:
    return bad / requests if requests else None


def _share(bad: int, requests: int) -> str:
    return _percent(bad / requests) if requests else "nothing measured"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
