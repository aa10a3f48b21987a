import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_core.arm_comparison import Comparison

ticks = st.tuples(st.integers(0, 30), st.floats(0, 1)).map(lambda tick: (tick[0], round(tick[0] * tick[1])))


def watch(rng, candidate, baseline, margin, alpha, most_ticks):
    """The tick at which harm is proven, or None. Each arm is (mean requests a tick, failure rate by tick)."""
    comparison = Comparison()
    for tick in range(most_ticks):
        arms = []
        for mean, rate in (candidate, baseline):
            requests = int(rng.poisson(mean))
            arms.append((requests, int(rng.binomial(requests, rate(tick)))))
        comparison = comparison.observe(arms[0], arms[1], margin)
        if comparison.log_evidence() >= math.log(1 / alpha):
            return tick + 1
    return None


def chance_of(failures, requests, rate):
    return math.comb(requests, failures) * rate**failures * (1 - rate) ** (requests - failures)


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.3), ticks)
def test_a_tick_is_worth_at_most_one_while_the_candidate_keeps_within_the_margin(
    ours, theirs, rate, part, margin, earlier
):
    """Exact: the expectation over all outcomes of a tick, after any past, is at most 1."""
    worse = min(1, rate + margin) * part
    before = Comparison().observe((0, 0), earlier, margin)
    expected = 0.0
    for failed in range(ours + 1):
        for baseline_failed in range(theirs + 1):
            chance = chance_of(failed, ours, worse) * chance_of(baseline_failed, theirs, rate)
            after = before.observe((ours, failed), (theirs, baseline_failed), margin)
            expected += chance * math.exp(after.log_evidence())
    assert expected <= 1 + 1e-9


def test_one_arm_alone_is_no_evidence_however_bad_it_looks():
    comparison = Comparison().observe((500, 500), (0, 0), 0.0).observe((0, 0), (500, 0), 0.0)
    assert comparison.log_evidence() == 0
    assert (comparison.baseline_requests, comparison.baseline_failures) == (500, 0)


def test_a_shared_outage_is_not_blamed_on_the_candidate():
    def outage(tick):
        return 0.6 if 20 <= tick < 30 else 0.002

    rng = np.random.default_rng(3)
    blamed = [watch(rng, (20, outage), (60, outage), 0.0, 0.05, 60) for _ in range(100)]
    assert np.mean([tick is not None for tick in blamed]) <= 0.05


def test_equal_arms_watched_for_long_keep_to_alpha():
    rng = np.random.default_rng(4)
    alarms = [watch(rng, (10, lambda _: 0.05), (30, lambda _: 0.05), 0.0, 0.1, 100) for _ in range(100)]
    assert np.mean([tick is not None for tick in alarms]) <= 0.1


def test_a_candidate_within_the_margin_keeps_to_alpha():
    rng = np.random.default_rng(5)
    alarms = [watch(rng, (20, lambda _: 0.03), (20, lambda _: 0.01), 0.02, 0.1, 100) for _ in range(100)]
    assert np.mean([tick is not None for tick in alarms]) <= 0.1


@pytest.mark.parametrize("share, within_ticks", [(10, 32), (50, 32)])
def test_five_percent_against_half_a_percent_is_found_quickly(share, within_ticks):
    """10 requests a tick for the candidate, alpha 0.01: a test that knew both rates would take about 22 ticks."""
    rng = np.random.default_rng(6)
    baseline_mean = 10 * (100 - share) / share
    found = [watch(rng, (10, lambda _: 0.05), (baseline_mean, lambda _: 0.005), 0.0, 0.01, 300) for _ in range(100)]
    assert None not in found
    assert np.median(found) <= within_ticks


def test_a_baseline_where_everything_fails_leaves_nothing_to_be_worse_than():
    comparison = Comparison(baseline_requests=10**6, baseline_failures=10**6)
    assert comparison.observe((10, 10), (10, 10), 0.1).log_evidence() == 0


@given(st.lists(st.tuples(ticks, ticks), max_size=8), st.floats(0, 0.5))
def test_evidence_survives_json_and_stays_finite(observations, margin):
    comparison = Comparison()
    for candidate, baseline in observations:
        comparison = comparison.observe(candidate, baseline, margin)
    assert math.isfinite(comparison.log_evidence())
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison


@pytest.mark.parametrize("candidate, baseline", [((1, 2), (1, 1)), ((1, 1), (1, 2)), ((-1, -1), (1, 1))])
def test_impossible_counts_are_refused(candidate, baseline):
    with pytest.raises(ValueError, match="cannot be"):
        Comparison().observe(candidate, baseline, 0.0)
