"""Is the candidate good enough, and no worse than the model in production?

**The minimum.** A suite passes when the share of right answers reaches its minimum *and* the lower Clopper-Pearson
bound reaches minimum - tolerance: the first keeps the promise on the rows that were asked, the second refuses one made
on too few rows to mean anything. A share below the minimum never passes. With the default confidence of 0.95 and a
tolerance of 0.03, a minimum of 0.95 needs at least this share of right answers:

    rows                       36     50    100    200    400    1000
    right answers at least     36     50     97    191    380     950

**The production model** answered the same rows. What counts is the rows on which the two differ, and the interval of
the difference is Tango's (see `intervals`), its zero being McNemar's test. Not worse by more than `max_regression`:
the measured loss is within it (else FAILED) and the lower bound is too (else INCONCLUSIVE: too few rows to know).
Different rows, or a suite that one of the two was not asked, cannot be compared and are an ERROR.

An answer that never came is an ERROR, whatever the other rows say: what the model would have said is not known.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from llmops_core.evaluation_report import Evidence, SuiteResult
from llmops_core.intervals import Interval, mcnemar_p_value, paired_difference, proportion
from llmops_core.verdict import Finding, Verdict

__all__ = ["EvaluationPolicy", "Evidence", "chart_rows", "comparison_table", "judge"]


class EvaluationPolicy(BaseModel):
    """What is demanded. `minimums` names every suite that must be there; bounds are one-sided at `confidence`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimums: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    max_regression: float = Field(default=0.02, ge=0, le=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    tolerance: float = Field(default=0.03, ge=0, lt=1)


def judge(candidate: Evidence, baseline: Evidence | None, policy: EvaluationPolicy) -> list[Finding]:
    """A finding for each suite, and one for each comparison where there is a production model. Never empty."""
    findings = [_judge_suite(candidate, name, policy) for name in _names(candidate, policy)]
    if baseline is not None:
        findings += [_judge_comparison(candidate, baseline, name, policy) for name in sorted(policy.minimums)]
    return findings


def comparison_table(
    candidate: Evidence, baseline: Evidence | None, policy: EvaluationPolicy
) -> list[dict[str, str | int]]:
    """Rows for people: suite, rows, candidate, minimum, baseline, difference, McNemar's p-value, verdict.

    Shares stand with their bounds, "0.973 (0.958 to 0.983)"; what was not measured is a dash.
    """
    table: list[dict[str, str | int]] = []
    for name in _names(candidate, policy):
        suite = candidate.suites.get(name)
        before = baseline.suites.get(name) if baseline else None
        pair = _pair(candidate, baseline, name) if baseline and not _incomparable(candidate, baseline, name) else None
        verdicts = [_judge_suite(candidate, name, policy).verdict]
        if baseline and name in policy.minimums:
            verdicts.append(_judge_comparison(candidate, baseline, name, policy).verdict)
        table.append(
            {
                "suite": name,
                "rows": suite.total if suite else 0,
                "candidate": _shown(suite, policy),
                "minimum": f"{policy.minimums[name]:.3f}" if name in policy.minimums else "–",
                "baseline": _shown(before, policy),
                "difference": str(paired_difference(*pair, policy.confidence)) if pair else "–",
                "mcnemar_p": f"{mcnemar_p_value(pair[0], pair[1]):.3f}" if pair else "–",
                "verdict": max(verdicts).label,
            }
        )
    return table


def chart_rows(
    candidate: Evidence, baseline: Evidence | None, policy: EvaluationPolicy
) -> list[dict[str, str | float | None]]:
    """Numbers for a picture: suite, value with its bounds, minimum, and the baseline's value if there is one."""
    rows: list[dict[str, str | float | None]] = []
    for name, minimum in sorted(policy.minimums.items()):
        suite = candidate.suites.get(name)
        before = baseline.suites.get(name) if baseline else None
        if suite is not None:
            share = proportion(suite.correct, suite.total, policy.confidence)
            bounds = {"value": share.estimate, "low": share.low, "high": share.high}
            rows.append({"suite": name, **bounds, "minimum": minimum, "baseline": _share_of(before)})
    return rows


def _share_of(suite: SuiteResult | None) -> float | None:
    return suite.correct / suite.total if suite else None


def _names(candidate: Evidence, policy: EvaluationPolicy) -> list[str]:
    return sorted({*policy.minimums, *candidate.suites, *candidate.unusable})


def _judge_suite(candidate: Evidence, name: str, policy: EvaluationPolicy) -> Finding:
    suite = candidate.suites.get(name)
    if suite is None:
        return Finding(name, Verdict.ERROR, candidate.why_missing(name), None, policy.minimums.get(name))
    minimum = policy.minimums.get(name, suite.minimum)
    if suite.minimum != minimum:
        reason = f"the report was made for a minimum of {suite.minimum:g}, demanded is {minimum:g}"
        return Finding(name, Verdict.ERROR, reason, None, minimum)
    if suite.errors:
        reason = f"{suite.errors} of {suite.total} rows got no answer"
        return Finding(name, Verdict.ERROR, reason, None, minimum)
    share = proportion(suite.correct, suite.total, policy.confidence)
    verdict, meaning = _reached(share, minimum, policy)
    told = f"{suite.correct} of {suite.total} rows right, {share}: {meaning}"
    return Finding(name, verdict, told, share.estimate, minimum)


def _reached(share: Interval, minimum: float, policy: EvaluationPolicy) -> tuple[Verdict, str]:
    if share.estimate < minimum:
        return Verdict.FAILED, f"below the minimum of {minimum:g}"
    if share.low < minimum - policy.tolerance:
        needed = f"the lower bound must reach {minimum - policy.tolerance:.3g}"
        return Verdict.INCONCLUSIVE, f"too few rows to be sure of {minimum:g}, {needed}"
    return Verdict.PASSED, f"reaches the minimum of {minimum:g}"


def _judge_comparison(candidate: Evidence, baseline: Evidence, name: str, policy: EvaluationPolicy) -> Finding:
    title, limit = f"{name}_against_production", -policy.max_regression
    reason = _incomparable(candidate, baseline, name)
    if reason:
        return Finding(title, Verdict.ERROR, reason, None, limit)
    gained, lost, total = _pair(candidate, baseline, name)
    difference = paired_difference(gained, lost, total, policy.confidence)
    told = f"{gained} rows newly right, {lost} newly wrong of {total}, a difference of {difference}"
    if lost - gained > policy.max_regression * total:
        verdict, meaning = Verdict.FAILED, f"worse by more than {policy.max_regression:g}"
    elif difference.low < limit:
        verdict, meaning = Verdict.INCONCLUSIVE, f"too few rows to rule out a loss of {policy.max_regression:g}"
    else:
        verdict, meaning = Verdict.PASSED, f"not worse by more than {policy.max_regression:g}"
    return Finding(title, verdict, f"{told}: {meaning}", difference.estimate, limit)


def _incomparable(candidate: Evidence, baseline: Evidence, name: str) -> str:
    """Why the two cannot be compared on this suite, or nothing."""
    for whose, evidence in (("candidate's", candidate), ("production model's", baseline)):
        if name not in evidence.suites:
            return f"the {whose} answers are missing: {evidence.why_missing(name)}"
        if evidence.suites[name].errors:
            return f"{evidence.suites[name].errors} of the {whose} answers never came"
    ours, theirs = candidate.rows[name], baseline.rows[name]
    if ours.keys() != theirs.keys():
        return f"the rows differ: {len(ours.keys() - theirs.keys())} new, {len(theirs.keys() - ours.keys())} gone"
    return ""


def _pair(candidate: Evidence, baseline: Evidence, name: str) -> tuple[int, int, int]:
    ours, theirs = candidate.rows[name], baseline.rows[name]
    gained = sum(ours[row] and not theirs[row] for row in ours)
    lost = sum(theirs[row] and not ours[row] for row in ours)
    return gained, lost, len(ours)


def _shown(suite: SuiteResult | None, policy: EvaluationPolicy) -> str:
    return str(proportion(suite.correct, suite.total, policy.confidence)) if suite else "–"
