import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.slo import Events, burn_rate, judge_error_budget
from llmops_core.verdict import Verdict


def test_half_the_allowed_failures_is_half_the_budget_not_none_of_it():
    finding = judge_error_budget("availability", Events(1_000_000, 500), 0.999)
    assert finding.value == 0.5
    assert finding.verdict is Verdict.PASSED
    assert "spend 50 % of the error budget of 0.999" in finding.reason


@pytest.mark.parametrize("objective, total, allowed", [(0.9, 10, 1), (0.99, 300, 3), (0.999, 7000, 7), (0.7, 10, 3)])
def test_a_budget_spent_to_the_last_event_is_kept_and_one_more_breaks_it(objective, total, allowed):
    assert judge_error_budget("success", Events(total, allowed), objective).verdict is Verdict.PASSED
    assert judge_error_budget("success", Events(total, allowed + 1), objective).verdict is Verdict.FAILED


def test_no_events_are_an_error_never_a_pass():
    finding = judge_error_budget("availability", Events(0, 0), 0.999)
    assert finding.verdict is Verdict.ERROR
    assert finding.value is None
    assert burn_rate(Events(0, 0), 0.999) is None


@pytest.mark.parametrize("total, bad", [(1, 2), (1, -1), (-1, -1)])
def test_impossible_events_are_refused(total, bad):
    with pytest.raises(ValueError, match="cannot be"):
        Events(total, bad)


@pytest.mark.parametrize("objective", [0, 1, 1.5, math.nan])
def test_an_objective_that_allows_all_or_nothing_is_refused(objective):
    with pytest.raises(ValueError, match="not strictly between"):
        burn_rate(Events(10, 1), objective)


@given(st.integers(1, 10**9), st.floats(0.5, 0.9999), st.floats(0, 1))
def test_the_verdict_agrees_with_the_measured_share(total, objective, part):
    events = Events(total, round(total * part))
    measured = 1 - events.bad / total
    if abs(measured - objective) > 1e-9:
        passed = judge_error_budget("success", events, objective).verdict is Verdict.PASSED
        assert passed == (measured > objective)
