import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import gammaln, xlog1py, xlogy

from llmops_core.sequential import (
    log_evidence_above,
    log_evidence_below,
    proves,
    rate_interval,
    requests_needed,
)

limits = st.floats(0.001, 0.999)
tests = st.sampled_from([log_evidence_above, log_evidence_below])


@st.composite
def counts(draw, most=5000):
    requests = draw(st.integers(1, most))
    return requests, draw(st.integers(0, requests))


def rejections(test, limit, alpha, most):
    """For each number of requests up to `most`: which numbers of failures reject."""
    return [np.array([proves(test(n, k, limit), alpha) for k in range(n + 1)]) for n in range(1, most + 1)]


def chance_of_ever_rejecting(rejecting, rate):
    """Exact, by following the distribution of failures over every look at every request."""
    alive, rejected = np.array([1.0]), 0.0
    for reject in rejecting:
        alive = np.append(alive * (1 - rate), 0) + np.append(0, alive * rate)
        rejected += alive[reject].sum()
        alive = np.where(reject, 0, alive)
    return rejected


@given(tests, limits)
def test_no_requests_are_no_evidence(test, limit):
    assert test(0, 0, limit) == 0


@pytest.mark.parametrize("test", [log_evidence_above, log_evidence_below])
@pytest.mark.parametrize(
    "requests, failures, limit", [(1, 2, 0.5), (3, -1, 0.5), (-1, -1, 0.5), (1, 0, 0), (1, 0, 1), (1, 0, math.nan)]
)
def test_impossible_counts_and_limits_are_refused(test, requests, failures, limit):
    with pytest.raises(ValueError, match=r"cannot be|not strictly between"):
        test(requests, failures, limit)


@pytest.mark.parametrize("requests, failures, limit", [(1, 1, 0.01), (30, 2, 0.05), (200, 0, 0.02), (60, 40, 0.3)])
def test_the_closed_form_is_the_average_likelihood_ratio(requests, failures, limit):
    def ratio(p):
        return (p / limit) ** failures * ((1 - p) / (1 - limit)) ** (requests - failures)

    above = quad(lambda p: ratio(p) * p**-0.9, limit, 1, points=[0.02, 0.1])[0] / quad(lambda p: p**-0.9, limit, 1)[0]
    below = quad(lambda p: ratio(p) * p**-0.5, 0, limit)[0] / quad(lambda p: p**-0.5, 0, limit)[0]
    assert log_evidence_above(requests, failures, limit) == pytest.approx(math.log(above), abs=1e-6)
    assert log_evidence_below(requests, failures, limit) == pytest.approx(math.log(below), abs=1e-6)


@settings(max_examples=40)
@given(st.integers(1, 100), limits, st.floats(0, 1))
def test_evidence_is_worth_at_most_one_while_the_hypothesis_holds(requests, limit, part):
    ks = np.arange(requests + 1)
    for test, rate in ((log_evidence_above, limit * part), (log_evidence_below, limit + (1 - limit) * part)):
        log_evidence = np.array([test(requests, int(k), limit) for k in ks])
        log_chances = gammaln(requests + 1) - gammaln(ks + 1) - gammaln(requests - ks + 1)
        log_chances = log_chances + xlogy(ks, rate) + xlog1py(requests - ks, -rate)
        assert np.exp(log_evidence + log_chances).sum() <= 1 + 1e-9


@given(counts(), limits)
def test_a_further_failure_never_speaks_for_safety_nor_a_success_for_harm(counted, limit):
    requests, failures = counted
    slack = 1e-8
    for test, sign in ((log_evidence_above, 1), (log_evidence_below, -1)):
        now = sign * test(requests, failures, limit)
        assert sign * test(requests + 1, failures + 1, limit) >= now - slack
        assert sign * test(requests + 1, failures, limit) <= now + slack


@given(counts(), limits, limits)
def test_proof_against_a_limit_is_proof_against_every_more_lenient_one(counted, one, other):
    strict, lenient = sorted((one, other))
    above = [log_evidence_above(*counted, limit) for limit in (strict, lenient)]
    below = [log_evidence_below(*counted, limit) for limit in (strict, lenient)]
    assert above[1] <= max(above[0], 0) + 1e-8
    assert below[0] <= max(below[1], 0) + 1e-8


@pytest.mark.parametrize("failures", [0, 1, 10**6, 10**7, 10**7 + 10**5, 5 * 10**8, 10**9])
def test_a_billion_requests_stay_finite_and_quick(failures):
    began = time.perf_counter()
    above, below = log_evidence_above(10**9, failures, 0.01), log_evidence_below(10**9, failures, 0.01)
    interval = rate_interval(10**9, failures, 0.01)
    assert time.perf_counter() - began < 0.5
    assert math.isfinite(above) and math.isfinite(below)
    assert interval.low <= failures / 10**9 <= interval.high
    assert interval.high - interval.low < 2e-4
    assert min(above, below) > -30, "evidence against the truth of the matter falls slowly, never to nothing"


def test_looking_at_every_request_does_not_raise_false_alarms_above_alpha():
    for test, limit in ((log_evidence_above, 0.05), (log_evidence_below, 0.05), (log_evidence_above, 0.3)):
        chance = chance_of_ever_rejecting(rejections(test, limit, 0.1, 300), limit)
        assert 0.005 < chance <= 0.1, "valid, and not so timid that the check could never fail"


def test_simulated_streams_watched_at_every_request_keep_to_alpha():
    alpha, limit, length = 0.05, 0.01, 3000
    rng = np.random.default_rng(20)
    needed = np.array([failures_that_prove_harm(n, limit, alpha) for n in range(1, length + 1)])
    failures = (rng.random((2000, length)) < limit).cumsum(axis=1)
    alarms = (failures >= needed).any(axis=1).mean()
    threshold_alarms = (failures[:, 99:] > 1.5 * limit * np.arange(100, length + 1)).any(axis=1).mean()
    assert alarms <= alpha
    assert threshold_alarms > 0.3, "what a threshold at the same looks would have done"


def failures_that_prove_harm(requests, limit, alpha):
    low, high = 0, requests + 1
    while low < high:
        middle = (low + high) // 2
        if proves(log_evidence_above(requests, middle, limit), alpha):
            high = middle
        elif middle == requests:
            return requests + 1
        else:
            low = middle + 1
    return low


@pytest.mark.parametrize("limit, rate, at_most", [(0.01, 0.05, 160), (0.005, 0.05, 90), (0.01, 0.5, 5), (0.01, 1, 2)])
def test_a_bad_rate_is_found_in_about_the_time_that_walds_bound_allows(limit, rate, at_most):
    rng = np.random.default_rng(5)
    needed = np.array([failures_that_prove_harm(n, limit, 0.01) for n in range(1, 1001)])
    found = (rng.random((1000, 1000)) < rate).cumsum(axis=1) >= needed
    assert found.any(axis=1).all()
    assert np.median(found.argmax(axis=1) + 1) <= at_most


def test_the_documented_table_of_requests_needed_holds():
    table = {0.05: [188, 74, 36, 17], 0.01: [277, 109, 53, 25], 0.001: [400, 158, 77, 36]}
    for alpha, row in table.items():
        assert [requests_needed(limit, alpha) for limit in (0.02, 0.05, 0.10, 0.20)] == row


@given(st.floats(0.005, 0.9), st.floats(0.001, 0.2), st.integers(0, 20))
def test_requests_needed_is_the_first_number_that_proves(limit, alpha, failures):
    needed = requests_needed(limit, alpha, failures)
    assert proves(log_evidence_below(needed, failures, limit), alpha)
    assert needed - 1 < max(failures, 1) or not proves(log_evidence_below(needed - 1, failures, limit), alpha)


@given(counts(), limits, st.floats(0.001, 0.2))
def test_the_interval_passes_the_limit_exactly_when_harm_or_safety_is_proven(counted, limit, alpha):
    requests, failures = counted
    interval = rate_interval(requests, failures, alpha)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    if abs(interval.low - limit) > 1e-9 * limit:
        assert (interval.low > limit) == proves(log_evidence_above(requests, failures, limit), alpha / 2)
    if abs(interval.high - limit) > 1e-9 * limit:
        assert (interval.high < limit) == proves(log_evidence_below(requests, failures, limit), alpha / 2)


@pytest.mark.parametrize("requests, failures", [(1, 1), (30, 2), (500, 3), (40_000, 39_000), (10**7, 10**5)])
def test_each_end_of_the_interval_stands_where_half_of_alpha_is_reached(requests, failures):
    interval = rate_interval(requests, failures, 0.05)
    assert log_evidence_above(requests, failures, interval.low) == pytest.approx(math.log(40), abs=1e-4)
    if failures < requests:
        assert log_evidence_below(requests, failures, interval.high) == pytest.approx(math.log(40), abs=1e-4)


def test_without_requests_the_interval_knows_nothing():
    interval = rate_interval(0, 0, 0.05)
    assert math.isnan(interval.estimate)
    assert (interval.low, interval.high) == (0, 1)
