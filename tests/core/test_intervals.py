import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from llmops_core.intervals import mcnemar_p_value, paired_difference, proportion


@st.composite
def discordant(draw):
    total = draw(st.integers(1, 2000))
    gained = draw(st.integers(0, total))
    return gained, draw(st.integers(0, total - gained)), total


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.55, 0.999))
def test_a_proportions_bounds_are_those_of_an_independent_implementation(total, part, confidence):
    successes = round(total * part)
    ours = proportion(successes, total, confidence)
    theirs = binomtest(successes, total).proportion_ci(2 * confidence - 1, "exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(discordant())
def test_a_paired_interval_holds_its_estimate_and_mirrors_when_the_models_swap(counted):
    gained, lost, total = counted
    interval, swapped = paired_difference(gained, lost, total), paired_difference(lost, gained, total)
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    assert (interval.low, interval.high) == pytest.approx((-swapped.high, -swapped.low), abs=1e-9)


@pytest.mark.parametrize("total, gained_share, lost_share", [(40, 0.1, 0.1), (40, 0.02, 0.05), (60, 0.0, 0.03)])
def test_a_paired_interval_covers_about_as_often_as_it_says(total, gained_share, lost_share):
    """Exact, over every outcome. The score interval is approximate: each bound may miss a little more than 5 %."""
    truth, missed_low, missed_high = gained_share - lost_share, 0.0, 0.0
    for gained in range(total + 1):
        for lost in range(total + 1 - gained):
            chance = multinomial(total, gained, lost, gained_share, lost_share)
            if chance < 1e-9:
                continue
            interval = paired_difference(gained, lost, total)
            missed_low += chance * (interval.low > truth)
            missed_high += chance * (interval.high < truth)
    assert missed_low <= 0.07
    assert missed_high <= 0.07


def multinomial(total, gained, lost, gained_share, lost_share):
    rest = total - gained - lost
    ways = math.comb(total, gained) * math.comb(total - gained, lost)
    return ways * gained_share**gained * lost_share**lost * (1 - gained_share - lost_share) ** rest


def test_the_paired_score_at_no_difference_is_mcnemars_test():
    """18 gained and 8 lost: z is 10 / sqrt(26), so zero is just a bound at that confidence."""
    confidence = (1 + math.erf(10 / math.sqrt(26) / math.sqrt(2))) / 2
    assert paired_difference(18, 8, 300, confidence).low == pytest.approx(0, abs=1e-9)


def test_two_models_that_never_differ_are_not_known_to_be_equal():
    interval = paired_difference(0, 0, 100)
    assert interval.low == pytest.approx(-0.0263, abs=1e-4)
    assert interval.high == -interval.low


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemars_p_value_is_the_exact_binomial_one(gained, lost):
    theirs = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("successes, total", [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_or_of_less_is_refused(successes, total):
    with pytest.raises(ValueError, match="is no share"):
        proportion(successes, total)


@pytest.mark.parametrize("gained, lost, total", [(0, 0, 0), (3, 3, 5), (-1, 0, 5)])
def test_impossible_discordant_rows_are_refused(gained, lost, total):
    with pytest.raises(ValueError, match="cannot be"):
        paired_difference(gained, lost, total)


def test_all_right_and_all_wrong_have_bounds_at_the_ends():
    assert (proportion(10, 10).high, proportion(0, 10).low) == (1, 0)
    assert (paired_difference(5, 0, 5).high, paired_difference(0, 5, 5).low) == (1, -1)
    assert np.isfinite([paired_difference(5, 0, 5).low, paired_difference(0, 5, 5).high]).all()
