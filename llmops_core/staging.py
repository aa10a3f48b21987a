"""What the tests of a staged version mean: one finding for each probe, question set and level of load."""

from dataclasses import dataclass

from llmops_core.settings import StagingTests
from llmops_core.verdict import Finding, Verdict

MIN_SAME_ANSWERS = 0.9


@dataclass(frozen=True)
class LoadLevel:
    """What one level of load came to. `p95_seconds` is None when no request was answered."""

    concurrency: int
    total: int
    ok: int
    p95_seconds: float | None


def judge_probe(name: str, status: int | None) -> Finding:
    """`status` is the HTTP status of a probe, None when nothing answered."""
    if status == 200:
        return Finding(name, Verdict.PASSED, "answers 200", 200)
    seen = "does not answer" if status is None else f"answers {status}"
    return Finding(name, Verdict.FAILED, f"{seen} instead of 200", status)


def judge_identity(expected: tuple[str, str], found: tuple[str, str]) -> Finding:
    """(version, weights digest) that was deployed, and that the endpoint says of itself."""
    if expected == found:
        return Finding("identity", Verdict.PASSED, f"version {found[0]} with weights {found[1][:12]} answers")
    said = f"version {found[0] or 'unknown'} with weights {found[1][:12] or 'unknown'}"
    return Finding("identity", Verdict.FAILED, f"{said} answers instead of version {expected[0]}")


def judge_inference(same: int, total: int) -> Finding:
    """Held-out questions asked through the gateway, answered as the evaluation of this very artefact recorded.

    How good the answers are was judged there, on all rows; here few rows show whether the same model is served.
    """
    if total <= 0:
        return Finding("inference", Verdict.ERROR, "no question was asked", None, MIN_SAME_ANSWERS)
    share = same / total
    verdict = Verdict.PASSED if share >= MIN_SAME_ANSWERS else Verdict.FAILED
    reason = f"{same} of {total} answers are those of the evaluation, at least {MIN_SAME_ANSWERS:.0%} must be"
    return Finding("inference", verdict, reason, share, MIN_SAME_ANSWERS)


def judge_load(level: LoadLevel, policy: StagingTests) -> Finding:
    """Success rate and 95th percentile at one level of concurrency."""
    name = f"load_{level.concurrency}"
    if level.total <= 0 or level.p95_seconds is None:
        return Finding(name, Verdict.ERROR, f"no request was answered at concurrency {level.concurrency}")
    success = level.ok / level.total
    seen = f"{level.ok} of {level.total} succeeded, p95 {level.p95_seconds * 1000:.0f} ms"
    if success < policy.min_success_rate:
        reason = f"{seen}: less than {policy.min_success_rate:.0%}"
        return Finding(name, Verdict.FAILED, reason, success, policy.min_success_rate)
    if not level.p95_seconds <= policy.max_p95_seconds:
        reason = f"{seen}: slower than {policy.max_p95_seconds * 1000:.0f} ms"
        return Finding(name, Verdict.FAILED, reason, level.p95_seconds, policy.max_p95_seconds)
    return Finding(name, Verdict.PASSED, seen, success, policy.min_success_rate)
