"""Intervals for proportions from a fixed number of rows, and the beta integrals that the sequential tests share.

- One proportion: Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the
  binomial". Exact: it covers at least as often as it says, at any number of rows.
- The difference of two proportions on the *same* rows: Tango (1998), "Equivalence test and confidence interval for the
  difference in proportions for the paired-sample design", Statistics in Medicine 17, 891-908. It inverts the score
  test whose variance is estimated under the hypothesised difference; for a difference of zero that test is
  McNemar's. Unlike an interval that conditions on the discordant pairs it does not shrink to a point when there are
  none.

Every bound here is one-sided at `confidence`: a pair (low, high) at 0.95 is a two-sided 90 % interval, and a decision
that looks at one end of it is wrong with 5 %.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from scipy.special import betainc, betaincinv, betaln  # pyright: ignore[reportMissingTypeStubs]

# Below this the regularised integral is near the end of the floating point range, and its series is used instead.
_SMALLEST_TRUSTED = 1e-200


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds; all three are shares, or differences of shares, not percentages."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f})"


def log_beta_below(x: float, a: float, b: float) -> float:
    """log of the integral of p^(a-1) (1-p)^(b-1) over 0 < p < x, finite even where the integral itself underflows.

    Far in the tail the integral is x^a (1-x)^b / a times the sum of the products of x (a+b+i-1) / (a+i)
    (DLMF 8.17.7 with 15.8.1): every term is positive, so nothing cancels, and the terms shrink geometrically there.
    """
    share = float(betainc(a, b, x))
    if share > _SMALLEST_TRUSTED:
        return float(betaln(a, b)) + math.log(share)
    total = term = 1.0
    order = 0
    while term > total * 1e-15:
        term *= x * (a + b + order) / (a + 1 + order)
        total += term
        order += 1
    return a * math.log(x) + b * math.log1p(-x) - math.log(a) + math.log(total)


def log_beta_above(x: float, a: float, b: float) -> float:
    """log of the integral of p^(a-1) (1-p)^(b-1) over x < p < 1."""
    return log_beta_below(1 - x, b, a)


def crossing(decreasing: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Bisects for the zero of a decreasing function: returns the last points at which it was positive and was not."""
    while True:
        middle = (low + high) / 2
        if not low < middle < high or high - low <= 1e-12 * max(abs(low), abs(high)):
            return low, high
        if decreasing(middle) > 0:
            low = middle
        else:
            high = middle


def proportion(successes: int, total: int, confidence: float = 0.95) -> Interval:
    """Clopper-Pearson bounds of a share. Raises ValueError without rows or with more successes than rows."""
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is no share")
    risk = 1 - confidence
    low = 0.0 if successes == 0 else float(betaincinv(successes, total - successes + 1, risk))
    high = 1.0 if successes == total else float(betaincinv(successes + 1, total - successes, 1 - risk))
    return Interval(successes / total, low, high)


def paired_difference(gained: int, lost: int, total: int, confidence: float = 0.95) -> Interval:
    """Tango's score bounds of (share right now) - (share right before) over the same `total` rows.

    `gained` rows were wrong before and are right now, `lost` rows the other way round.
    """
    if total < 1 or min(gained, lost) < 0 or gained + lost > total:
        raise ValueError(f"{gained} gained and {lost} lost of {total} rows cannot be")
    estimate = (gained - lost) / total
    critical = NormalDist().inv_cdf(confidence)
    score = _tango_score(gained, lost, total)
    low = -1.0 if estimate == -1 else crossing(lambda d: score(d) - critical, -1.0, estimate)[0]
    high = 1.0 if estimate == 1 else crossing(lambda d: score(d) + critical, estimate, 1.0)[1]
    return Interval(estimate, low, high)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Exact two-sided p-value for "as many gained as lost", from the binomial distribution of the discordant rows."""
    discordant, fewer = gained + lost, min(gained, lost)
    if gained == lost:
        return 1.0
    return min(1.0, 2 * float(betainc(discordant - fewer, fewer + 1, 0.5)))


def _tango_score(gained: int, lost: int, total: int) -> Callable[[float], float]:
    def score(difference: float) -> float:
        linear = (2 * total - gained + lost) * difference - gained - lost
        constant = -lost * difference * (1 - difference)
        root = math.sqrt(max(0.0, linear * linear - 8 * total * constant))
        lost_share = (root - linear) / (4 * total)  # the likeliest share of lost rows if the difference were true
        variance = total * (2 * lost_share + difference * (1 - difference))
        surprise = gained - lost - total * difference
        return surprise / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, surprise)

    return score
