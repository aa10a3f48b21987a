"""Tests of a failure rate that may be looked at after every request, and stopped at any of those looks.

A test with a fixed number of rows is wrong far more often than it says when it is looked at again and again. An
e-process is not: a non-negative quantity that starts at 1 and whose expectation is at most 1 at any stopping time
while the hypothesis holds. By Ville's inequality (Ville 1939; Ramdas, Grünwald, Vovk and Shafer 2023, "Game-theoretic
statistics and safe anytime-valid inference") it *ever* reaches 1/alpha with probability at most alpha. So the rule
"reject when e >= 1/alpha" may be applied at every tick for ever.

**The process.** For a limit p0 and any p > p0 the likelihood ratio (p/p0)^k ((1-p)/(1-p0))^(n-k) of k failures in n
requests is such a process under H0 "each request fails with probability at most p0, whatever came before": one
request multiplies it in expectation by q p/p0 + (1-q)(1-p)/(1-p0), which grows with q and is 1 at q = p0. Which p the
harm has is unknown, so the ratio is averaged over a beta distribution restricted to p > p0 (Robbins 1970, the method
of mixtures); an average of e-processes is one. Requests need neither be independent nor have equal rates.
The test of safety, H0 "at least p1", is the mirror image with the beta distribution restricted to p < p1.

Both are functions of n and k alone, so no state is kept and a lost tick loses nothing.

**The mixtures.** Beta(0.1, 1) above the limit is nearly uniform in log p: harm of any size is found within a small
factor of the time that the best p would take. Beta(0.5, 1) below the limit favours good services. At alpha = 0.01 and
a limit of 1 %, harm is found after these numbers of requests (medians):

    true rate    3 %    5 %    10 %    50 %    100 %
    requests     422    138      35       4        2

Wald's bound for 5 % against 1 % is log(100) / KL(0.05 || 0.01) = 112.

**The interval** holds all p0 that neither test (each at alpha/2) rejects: it covers the true rate at all times at once
with probability 1 - alpha, and its lower end passes the limit in the very moment that harm is proven. That the
rejected limits form an interval: with theta = log p the log likelihood is concave and the beta density exp(a theta)
has a non-decreasing hazard from above and a non-increasing one from below; integration by parts then bounds the
derivative of e wherever e > 1, so e falls in the limit on the one side and rises on the other.
"""

import math

from llmops_core.intervals import Interval, crossing, log_beta_above, log_beta_below

_HARM_SHAPE = 0.1
_SAFETY_SHAPE = 0.5


def log_evidence_above(requests: int, failures: int, limit: float) -> float:
    """log of the e-process against H0 "the failure rate is at most `limit`". 0 for no requests.

    Raises ValueError for counts that cannot be and for a limit that is not strictly between 0 and 1.
    """
    _refuse_impossible(requests, failures, limit)
    if requests == 0:
        return 0.0
    mixture = log_beta_above(limit, _HARM_SHAPE + failures, 1.0 + requests - failures)
    return mixture - log_beta_above(limit, _HARM_SHAPE, 1.0) - _log_likelihood(requests, failures, limit)


def log_evidence_below(requests: int, failures: int, limit: float) -> float:
    """log of the e-process against H0 "the failure rate is at least `limit`". 0 for no requests."""
    _refuse_impossible(requests, failures, limit)
    if requests == 0:
        return 0.0
    mixture = log_beta_below(limit, _SAFETY_SHAPE + failures, 1.0 + requests - failures)
    return mixture - log_beta_below(limit, _SAFETY_SHAPE, 1.0) - _log_likelihood(requests, failures, limit)


def proves(log_evidence: float, alpha: float) -> bool:
    """Whether the evidence rejects its hypothesis at level `alpha`, at this look and whatever looks came before."""
    return log_evidence >= math.log(1 / alpha)


def rate_interval(requests: int, failures: int, alpha: float) -> Interval:
    """Bounds that hold the failure rate at all times at once with probability at least 1 - alpha, for charts.

    Without requests nothing is known: (0 to 1), and the estimate is NaN.
    """
    _refuse_impossible(requests, failures, 0.5)
    if requests == 0:
        return Interval(math.nan, 0.0, 1.0)
    needed = math.log(2 / alpha)
    rate = failures / requests
    low, high = 0.0, 1.0
    if failures > 0:
        low = crossing(lambda p: log_evidence_above(requests, failures, p) - needed, 0.0, rate)[0]
    if failures < requests:
        high = crossing(lambda p: needed - log_evidence_below(requests, failures, p), rate, 1.0)[1]
    return Interval(rate, low, high)


def requests_needed(limit: float, alpha: float, failures: int = 0) -> int:
    """The smallest number of requests with so many failures that proves a rate below `limit`."""
    high = failures + 1
    while not proves(log_evidence_below(high, failures, limit), alpha):
        high *= 2
    low = high // 2  # evidence grows with every further success, so the smallest number lies between
    while high - low > 1:
        middle = (low + high) // 2
        proven = middle >= failures and proves(log_evidence_below(middle, failures, limit), alpha)
        low, high = (low, middle) if proven else (middle, high)
    return high


def _log_likelihood(requests: int, failures: int, rate: float) -> float:
    return failures * math.log(rate) + (requests - failures) * math.log1p(-rate)


def _refuse_impossible(requests: int, failures: int, limit: float) -> None:
    if not 0 <= failures <= requests:
        raise ValueError(f"{failures} failures in {requests} requests cannot be")
    if not 0 < limit < 1:
        raise ValueError(f"a limit of {limit} is not strictly between 0 and 1")
