"""Is the candidate worse than a baseline that answers at the same time? An e-process over two streams.

**The bet.** A tick brings n_c requests to the candidate and n_b to the baseline. Fix, from the past alone, an
alternative (c, b) of failure rates with c - b > margin, and let (c0, b0) be the point of the hypothesis
"candidate - baseline <= margin" that is nearest to it in Kullback-Leibler divergence: c0 = b0 + margin and
n_c x + n_b y = 0 with x = (c - c0) / (c0 (1 - c0)) and y = (b - b0) / (b0 (1 - b0)). The tick multiplies the wealth
by the likelihood ratio of (c, b) to (c0, b0). This is the construction of Turner, Ly and Grünwald (2024), "Generic
E-variables for exact sequential k-sample tests that allow for optional stopping".

**Why it is valid.** A request of the candidate that fails with probability q multiplies the wealth in expectation by
1 + (q - c0) x, one of the baseline by 1 + (q - b0) y. By the inequality of the arithmetic and geometric means the
product over the tick is at most (1 + n_c x (mean q_c - mean q_b - margin) / (n_c + n_b)) ^ (n_c + n_b), the terms in
c0 and b0 having cancelled. Since x >= 0 that is at most 1 whenever the candidate's mean rate in the tick exceeds the
baseline's by no more than the margin. Rates may therefore change in any way, within a tick too, as long as they
change for both arms together: a shared outage is no evidence against the candidate.

**Assumed:** requests are dealt to the arms without regard to how they will end, and how many each arm has in a tick
does not depend on their outcomes. A tick in which only one arm was asked says nothing and changes nothing.

**The alternative.** b is the baseline's rate so far, drawn a little towards 1 %; how much worse the candidate is, is
unknown, so the stake is spread evenly over three sizes of harm. Both touch only the power, never the validity.
"""

import math

from pydantic import BaseModel, ConfigDict, Field

_HARMS = (0.02, 0.1, 0.4)  # of the distance from "as bad as the margin allows" to "every request fails"
_PRIOR_FAILURES, _PRIOR_REQUESTS = 0.5, 50.0


class Comparison(BaseModel):
    """The wealth of the three bets so far, and what is known of the baseline. Starts without evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_wealth: tuple[float, float, float] = (0.0, 0.0, 0.0)
    baseline_requests: int = Field(default=0, ge=0)
    baseline_failures: int = Field(default=0, ge=0)

    def log_evidence(self) -> float:
        """log of the e-process against "the candidate is worse by no more than the margin"."""
        best = max(self.log_wealth)
        return best + math.log(sum(math.exp(wealth - best) for wealth in self.log_wealth) / len(self.log_wealth))

    def observe(self, candidate: tuple[int, int], baseline: tuple[int, int], margin: float) -> "Comparison":
        """After one more tick of (requests, failures) of each arm: counts of this tick, not sums since the start."""
        for requests, failures in (candidate, baseline):
            if not 0 <= failures <= requests:
                raise ValueError(f"{failures} failures in {requests} requests cannot be")
        expected = (self.baseline_failures + _PRIOR_FAILURES) / (self.baseline_requests + _PRIOR_REQUESTS)
        gains = [_log_gain(candidate, baseline, expected, margin, harm) for harm in _HARMS]
        first, second, third = (wealth + gain for wealth, gain in zip(self.log_wealth, gains, strict=True))
        return Comparison(
            log_wealth=(first, second, third),
            baseline_requests=self.baseline_requests + baseline[0],
            baseline_failures=self.baseline_failures + baseline[1],
        )


def _log_gain(
    candidate: tuple[int, int], baseline: tuple[int, int], expected: float, margin: float, harm: float
) -> float:
    allowed = expected + margin
    if candidate[0] == 0 or baseline[0] == 0 or allowed >= 1:
        return 0.0
    alternative = allowed + harm * (1 - allowed)
    null = _nearest_null(candidate[0], alternative, baseline[0], expected, margin)
    return _log_ratio(*candidate, alternative, null + margin) + _log_ratio(*baseline, expected, null)


def _nearest_null(candidate_requests: int, worse: float, baseline_requests: int, rate: float, margin: float) -> float:
    """The baseline's rate b0 with n_c x + n_b y = 0, by bisection: the left side falls from b to c - margin."""
    low, high = rate, worse - margin
    for _ in range(60):
        null = (low + high) / 2
        above = null + margin
        slope = candidate_requests * (worse - above) / (above * (1 - above))
        slope += baseline_requests * (rate - null) / (null * (1 - null))
        low, high = (null, high) if slope > 0 else (low, null)
    return (low + high) / 2


def _log_ratio(requests: int, failures: int, alternative: float, null: float) -> float:
    gain = failures * math.log(alternative / null)
    return gain + (requests - failures) * math.log((1 - alternative) / (1 - null))
