import json
import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import ValidationError

from llmops_core.arm_comparison import Comparison
from llmops_core.canary import (
    TRANSITIONS,
    Action,
    ArmCounts,
    CanaryPolicy,
    CanaryState,
    Ruling,
    Stage,
    advance,
    begin,
)
from llmops_core.errors import IntegrityError
from llmops_core.sequential import log_evidence_above, log_evidence_below
from llmops_core.verdict import Finding, Verdict

POLICY = CanaryPolicy()
GOOD = ArmCounts(200, 0, 0)
BASELINE = ArmCounts(2000, 2, 10)


def verdicts(decision):
    return {finding.name: finding.verdict for finding in decision.findings}


def plus(counts, requests, failures=0, slow=None):
    slow = failures if slow is None else slow
    return ArmCounts(counts.requests + requests, counts.failures + failures, counts.slow + slow)


def simulate(rng, policy, candidate, baseline, requests_a_second=100, most_seconds=10_000):
    """A canary under Poisson traffic; each arm is (error rate, slow rate). Returns the end, its second and reason."""
    state, weight = begin(policy, 0.0), policy.steps_percent[0]
    counts = [ArmCounts(), ArmCounts()]
    for second in range(1, most_seconds):
        for arm, (share, (errors, slow)) in enumerate(((weight, candidate), (100 - weight, baseline))):
            requests = int(rng.poisson(requests_a_second * share / 100))
            failures = int(rng.binomial(requests, errors))
            counts[arm] = plus(counts[arm], requests, failures, failures + int(rng.binomial(requests - failures, slow)))
        state, decision = advance(policy, state, counts[0], counts[1], float(second))
        weight = decision.weight_percent
        if state.stage is not Stage.RUNNING:
            return state.stage, second, decision.reason
    raise AssertionError("the canary never ended")


def test_a_good_candidate_climbs_every_step_and_is_promoted():
    state, candidate, baseline, actions = begin(POLICY, 0.0), ArmCounts(), ArmCounts(), []
    for second in (1.0, 2.0, 3.0):
        candidate, baseline = plus(candidate, 150), plus(baseline, 500, 1, 5)
        state, decision = advance(POLICY, state, candidate, baseline, second)
        actions.append((decision.action, decision.weight_percent))
    assert actions == [(Action.STEP, 25), (Action.STEP, 50), (Action.PROMOTE, 100)]
    assert "less than 5 % is proven" in decision.reason


def test_a_step_is_not_passed_on_the_evidence_of_an_earlier_weight():
    state, _ = advance(POLICY, begin(POLICY, 0.0), ArmCounts(5000), ArmCounts(50_000), 1.0)
    after, decision = advance(POLICY, state, ArmCounts(5050), ArmCounts(50_150), 2.0)
    assert (after.step, decision.action) == (1, Action.HOLD)
    assert state.errors_compared == state.slow_compared == Comparison()
    assert verdicts(decision)["errors"] is Verdict.INCONCLUSIVE


def test_proven_errors_roll_back_at_once_before_the_least_number_of_requests():
    state, decision = advance(POLICY, begin(POLICY, 0.0), ArmCounts(10, 8, 8), ArmCounts(90), 1.0)
    assert (state.stage, decision.action, decision.weight_percent) == (Stage.ROLLED_BACK, Action.ROLL_BACK, 0)
    assert decision.reason.startswith("at 10 % of the traffic: errors: 8 of 10 requests failed (80 %)")


def test_every_harm_test_has_its_part_of_alpha_and_no_more():
    """The fewest failures of 100 that roll back are those whose evidence reaches 4 tests * 3 steps / alpha."""
    needed = next(k for k in range(101) if log_evidence_above(100, k, 0.01) >= math.log(12 / POLICY.alpha))
    patient = CanaryPolicy(error_margin=0.9, slow_margin=0.9)
    for failures, stage in ((needed - 1, Stage.RUNNING), (needed, Stage.ROLLED_BACK)):
        counts = ArmCounts(100, failures, failures)
        state, _ = advance(patient, begin(patient, 0.0), counts, ArmCounts(900), 1.0)
        assert state.stage is stage


def test_slow_answers_without_errors_roll_back():
    state, decision = advance(POLICY, begin(POLICY, 0.0), ArmCounts(100, 0, 40), ArmCounts(900, 0, 9), 1.0)
    assert state.stage is Stage.ROLLED_BACK
    assert verdicts(decision)["slowness"] is Verdict.FAILED
    assert verdicts(decision)["errors"] is not Verdict.FAILED


def test_worse_than_the_baseline_rolls_back_although_the_limit_is_kept():
    lenient = CanaryPolicy(
        max_error_rate=0.2, immediate_error_rate=0.4, steps_percent=(50,), min_requests_per_step=9999
    )
    state, candidate, baseline = begin(lenient, 0.0), ArmCounts(), ArmCounts()
    for second in range(1, 60):
        candidate, baseline = plus(candidate, 50, 5), plus(baseline, 50)
        state, decision = advance(lenient, state, candidate, baseline, float(second))
        if state.stage is not Stage.RUNNING:
            break
    assert verdicts(decision)["errors_against_baseline"] is Verdict.FAILED
    assert verdicts(decision)["errors"] is not Verdict.FAILED
    assert "10 % against 0 %" in decision.reason


def test_a_candidate_that_breaks_late_is_not_shielded_by_its_good_past():
    state, _ = advance(POLICY, begin(POLICY, 0.0), ArmCounts(1_000_000), ArmCounts(9_000_000), 1.0)
    state, decision = advance(POLICY, state, ArmCounts(1_000_040, 30, 30), ArmCounts(9_000_120), 2.0)
    assert state.stage is Stage.ROLLED_BACK
    assert "30 of 40 requests failed (75 %) in this step: more than 1 % is proven" in decision.reason


def test_a_rate_seen_above_its_limit_is_not_passed_although_less_than_intolerable_is_proven():
    counts = ArmCounts(2000, 0, 120)
    policy = CanaryPolicy(slow_margin=0.5)
    assert log_evidence_below(2000, 120, policy.immediate_slow_rate) > math.log(1 / policy.alpha)
    _, decision = advance(policy, begin(policy, 0.0), counts, ArmCounts(18_000, 0, 0), 1.0)
    assert decision.action is Action.HOLD
    assert "above 5 %, though harm is not proven" in decision.reason


def test_time_over_without_proof_is_no_pass():
    state, decision = advance(POLICY, begin(POLICY, 0.0), ArmCounts(60), ArmCounts(600), 300.0)
    assert (state.stage, decision.action) == (Stage.ROLLED_BACK, Action.ROLL_BACK)
    assert verdicts(decision)["time"] is Verdict.INCONCLUSIVE
    assert Verdict.FAILED not in verdicts(decision).values()
    assert "not enough evidence is not a pass" in decision.reason


def test_no_requests_at_all_hold_and_then_roll_back():
    state, decision = advance(POLICY, begin(POLICY, 0.0), ArmCounts(), ArmCounts(1000), 299.0)
    assert (decision.action, verdicts(decision)["traffic"]) == (Action.HOLD, Verdict.ERROR)
    state, decision = advance(POLICY, state, ArmCounts(), ArmCounts(1000), 300.0)
    assert state.stage is Stage.ROLLED_BACK
    assert "no request has reached the candidate" in decision.reason


def test_a_candidate_without_any_server_goes_back_although_no_count_says_so():
    gone = Finding("health", Verdict.FAILED, "0 of 3 replicas are ready")
    state, decision = advance(POLICY, begin(POLICY, 0.0), ArmCounts(), ArmCounts(50), 5.0, gone)
    assert (decision.action, state.stage) == (Action.ROLL_BACK, Stage.ROLLED_BACK)
    assert "0 of 3 replicas are ready" in decision.reason


def test_a_candidate_of_whose_servers_nothing_is_known_is_not_passed():
    unknown = Finding("health", Verdict.ERROR, "the cluster does not answer")
    _, decision = advance(POLICY, begin(POLICY, 0.0), GOOD, BASELINE, 5.0, unknown)
    assert decision.action is Action.HOLD
    well = Finding("health", Verdict.PASSED, "1 of 3 replicas are ready")
    _, decision = advance(POLICY, begin(POLICY, 0.0), GOOD, BASELINE, 5.0, well)
    assert decision.action is Action.STEP and "1 of 3 replicas are ready" in decision.reason


def test_a_missing_baseline_holds_for_ever_unless_none_is_demanded():
    _, decision = advance(POLICY, begin(POLICY, 0.0), GOOD, None, 1.0)
    assert (decision.action, verdicts(decision)["baseline"]) == (Action.HOLD, Verdict.ERROR)
    _, decision = advance(POLICY, begin(POLICY, 0.0, baseline_demanded=False), GOOD, None, 1.0)
    assert decision.action is Action.STEP


def test_a_baseline_without_requests_does_not_compare():
    _, decision = advance(POLICY, begin(POLICY, 0.0), GOOD, ArmCounts(), 1.0)
    assert decision.action is Action.HOLD
    assert verdicts(decision)["errors_against_baseline"] is Verdict.INCONCLUSIVE


def test_a_step_that_leaves_the_baseline_no_requests_is_refused_before_it_begins():
    whole = CanaryPolicy(steps_percent=(50, 100))
    with pytest.raises(ValueError, match="leaves the baseline no requests"):
        begin(whole, 0.0)
    assert begin(whole, 0.0, baseline_demanded=False).stage is Stage.RUNNING


def test_harm_is_seen_while_the_baseline_is_missing():
    state, _ = advance(POLICY, begin(POLICY, 0.0), ArmCounts(20, 15, 15), None, 1.0)
    assert state.stage is Stage.ROLLED_BACK


def test_a_baseline_that_was_missing_for_a_tick_is_compared_over_the_same_stretch_of_time():
    state = begin(POLICY, 0.0)
    state, _ = advance(POLICY, state, ArmCounts(40, 0, 0), None, 1.0)
    gap, _ = advance(POLICY, state, ArmCounts(90, 1, 1), ArmCounts(900, 3, 3), 2.0)
    whole, _ = advance(POLICY, begin(POLICY, 0.0), ArmCounts(90, 1, 1), ArmCounts(900, 3, 3), 2.0)
    assert gap.errors_compared == whole.errors_compared


@pytest.mark.parametrize("candidate, baseline", [(ArmCounts(30), BASELINE), (ArmCounts(60), ArmCounts(1))])
def test_counters_that_go_backwards_end_the_canary(candidate, baseline):
    state, _ = advance(POLICY, begin(POLICY, 0.0), ArmCounts(50), BASELINE, 1.0)
    state, decision = advance(POLICY, state, candidate, baseline, 2.0)
    assert state.stage is Stage.ROLLED_BACK
    assert verdicts(decision) == {"counts": Verdict.ERROR}
    assert "went backwards" in decision.reason


def test_counters_read_between_two_of_them_wait_for_a_whole_tick():
    state, _ = advance(POLICY, begin(POLICY, 0.0), ArmCounts(50), ArmCounts(500), 1.0)
    torn, decision = advance(POLICY, state, ArmCounts(50, 1, 1), ArmCounts(600), 2.0)
    assert (torn, decision.action) == (state, Action.HOLD)
    _, decision = advance(POLICY, torn, ArmCounts(50, 1, 1), ArmCounts(600), 301.0)
    assert decision.action is Action.ROLL_BACK


def test_a_repeated_tick_changes_nothing_and_names_the_same_weight():
    state, first = advance(POLICY, begin(POLICY, 0.0), GOOD, BASELINE, 1.0)
    again, second = advance(POLICY, state, GOOD, BASELINE, 1.0)
    assert again == state
    assert second.action is Action.HOLD
    assert second.weight_percent == first.weight_percent == 25


def test_a_tick_older_than_the_last_changes_nothing():
    state, _ = advance(POLICY, begin(POLICY, 0.0), GOOD, BASELINE, 5.0)
    late, decision = advance(POLICY, state, ArmCounts(10, 10, 10), BASELINE, 4.0)
    assert (late, decision.action, decision.weight_percent) == (state, Action.HOLD, 25)
    assert "older than the last one judged" in decision.reason


def test_an_ended_canary_repeats_its_decision_for_a_caller_that_died_before_acting():
    state, decision = advance(POLICY, begin(POLICY, 0.0), ArmCounts(10, 8, 8), BASELINE, 1.0)
    again, repeated = advance(POLICY, state, ArmCounts(100_000), BASELINE, 900.0)
    assert again == state
    assert (repeated.action, repeated.weight_percent, repeated.reason) == (Action.ROLL_BACK, 0, decision.reason)


def test_a_decision_can_be_written_down():
    _, decision = advance(POLICY, begin(POLICY, 0.0), ArmCounts(), None, 1.0)
    written = json.loads(json.dumps(decision.as_dict()))
    assert (written["action"], written["weight_percent"]) == ("hold", 10)
    assert [finding["verdict"] for finding in written["findings"]] == ["error", "inconclusive", "inconclusive", "error"]


def test_the_policy_cannot_be_relaxed_while_the_canary_runs():
    state = begin(POLICY, 0.0)
    with pytest.raises(IntegrityError, match="policy changed"):
        advance(CanaryPolicy(max_error_rate=0.04), state, GOOD, BASELINE, 1.0)


@pytest.mark.parametrize("now", [math.nan, math.inf])
def test_a_clock_that_is_none_is_refused(now):
    with pytest.raises(ValueError, match="is no time"):
        begin(POLICY, now)
    with pytest.raises(ValueError, match="is no time"):
        advance(POLICY, begin(POLICY, 0.0), GOOD, BASELINE, now)


@pytest.mark.parametrize("counts", [(1, 2, 2), (5, 3, 2), (5, 0, 6), (-1, 0, 0), (1.5, 0, 0), (math.nan, 0, 0)])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValidationError):
        ArmCounts(*counts)


@pytest.mark.parametrize(
    "field, value",
    [
        ("steps_percent", ()),
        ("steps_percent", (25, 10)),
        ("steps_percent", (10, 10)),
        ("steps_percent", (0, 10)),
        ("steps_percent", (50, 101)),
        ("alpha", 0),
        ("max_error_rate", 0),
        ("max_error_rate", math.nan),
        ("immediate_error_rate", 0.01),
        ("immediate_slow_rate", 0.05),
        ("min_requests_per_step", 0),
        ("max_seconds_per_step", 0),
        ("success_rate", 0.99),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(ValidationError):
        CanaryPolicy(**{field: value})


def test_the_table_has_no_way_out_of_an_end_and_no_promotion_without_proof():
    for (stage, ruling), (action, after) in TRANSITIONS.items():
        if stage is not Stage.RUNNING:
            assert after is stage
        elif after is Stage.PROMOTED:
            assert (ruling, action) == (Ruling.PROVEN_AT_LAST, Action.PROMOTE)
    assert {ruling for stage, ruling in TRANSITIONS if stage is Stage.RUNNING} == set(Ruling)


def test_equal_variants_are_rolled_back_for_harm_with_probability_at_most_alpha():
    """Rates exactly at the limits, the hardest case: 100 canaries, every second a look, alpha 0.1."""
    policy = CanaryPolicy(alpha=0.1, steps_percent=(30, 50), min_requests_per_step=1500, max_seconds_per_step=40)
    rng = np.random.default_rng(8)
    ends = [simulate(rng, policy, (0.01, 0.04), (0.01, 0.04)) for _ in range(100)]
    harmed = [reason for stage, _, reason in ends if stage is Stage.ROLLED_BACK and "is proven" in reason]
    print("rolled back for harm:", len(harmed), "of", len(ends))
    assert len(harmed) / len(ends) <= policy.alpha


def test_a_good_candidate_passes_within_half_a_minute_and_is_never_sent_back():
    rng = np.random.default_rng(9)
    ends = [simulate(rng, POLICY, (0.002, 0.01), (0.002, 0.01)) for _ in range(100)]
    assert {stage for stage, _, _ in ends} == {Stage.PROMOTED}
    seconds = [second for _, second, _ in ends]
    print("seconds to promotion, 10/50/90 %:", np.percentile(seconds, [10, 50, 90]))
    assert np.median(seconds) <= 30


@pytest.mark.parametrize(
    "errors, slow, median_seconds", [(0.05, 0.01, 25), (0.10, 0.01, 12), (1.0, 0.0, 1), (0.002, 0.15, 12)]
)
def test_a_bad_candidate_is_found_soon_and_never_promoted(errors, slow, median_seconds):
    rng = np.random.default_rng(10)
    ends = [simulate(rng, POLICY, (errors, slow), (0.002, 0.01)) for _ in range(60)]
    assert Stage.PROMOTED not in {stage for stage, _, _ in ends}
    seconds = [second for _, second, _ in ends]
    print(f"errors {errors}, slow {slow}: seconds to rollback, 10/50/90 %:", np.percentile(seconds, [10, 50, 90]))
    assert np.median(seconds) <= median_seconds


def test_an_intolerable_candidate_is_promoted_with_probability_at_most_alpha():
    """No harm test can help here: the limit is just below the intolerable rate. One step, watched every second."""
    policy = CanaryPolicy(
        alpha=0.1, steps_percent=(50,), max_error_rate=0.0499, min_requests_per_step=1, max_seconds_per_step=60
    )
    rng = np.random.default_rng(11)
    ends = [simulate(rng, policy, (0.05, 0.0), (0.05, 0.0), requests_a_second=40)[0] for _ in range(100)]
    promoted = ends.count(Stage.PROMOTED) / len(ends)
    print("promoted at the intolerable rate:", promoted)
    assert promoted <= policy.alpha


class CanaryMachine(RuleBasedStateMachine):
    """Any sequence of ticks, replays, restarts and faults; a ledger of its own knows what was proven."""

    @initialize(demanded=st.booleans(), steps=st.sampled_from([(10, 25, 50), (50,), (1, 99)]))
    def start(self, demanded, steps):
        self.policy = CanaryPolicy(steps_percent=steps, min_requests_per_step=20)
        self.state = begin(self.policy, 0.0, demanded)
        self.now, self.demanded = 0.0, demanded
        self.candidate = self.baseline = self.mark = ArmCounts()
        self.proven_steps, self.reset, self.ended = 0, False, None
        self.last = None

    def judge(self, candidate, baseline):
        before = self.state
        self.state, decision = advance(self.policy, self.state, candidate, baseline, self.now)
        self.last = (candidate, baseline, self.now)
        assert decision.weight_percent == self.state.weight_percent(self.policy)
        if before.stage is not Stage.RUNNING:
            assert self.state == before
        elif decision.action in (Action.STEP, Action.PROMOTE):
            self.check_proof(candidate, baseline)

    def check_proof(self, candidate, baseline):
        step = candidate.since(self.mark)
        needed = math.log(1 / self.policy.alpha)
        assert log_evidence_below(step.requests, step.failures, self.policy.immediate_error_rate) >= needed
        assert log_evidence_below(step.requests, step.slow, self.policy.immediate_slow_rate) >= needed
        assert step.requests >= self.policy.min_requests_per_step
        assert not self.reset
        assert baseline is not None or not self.demanded
        self.mark = candidate
        self.proven_steps += 1

    @rule(
        requests=st.integers(0, 400),
        failed=st.sampled_from([0, 0, 0, 0, 0.002, 0.03, 0.5, 1]),
        slow=st.sampled_from([0, 0, 0, 0.02, 0.08, 1]),
        others=st.integers(0, 4000),
        has_baseline=st.sampled_from([True, True, True, False]),
        seconds=st.sampled_from([0, 1, 1, 5, 30, 400]),
    )
    def tick(self, requests, failed, slow, others, has_baseline, seconds):
        failures = round(requests * failed)
        self.candidate = plus(self.candidate, requests, failures, max(failures, round(requests * slow)))
        self.baseline = plus(self.baseline, others, others // 500, others // 100)
        self.now += seconds
        self.judge(self.candidate, self.baseline if has_baseline else None)

    @precondition(lambda self: self.last)
    @rule()
    def replay(self):
        before = self.state
        self.state, _ = advance(self.policy, before, *self.last)
        assert self.state == before

    @rule()
    def restart(self):
        before = self.state
        self.state = CanaryState.model_validate(json.loads(before.model_dump_json()))
        assert self.state == before == CanaryState.model_validate_json(before.model_dump_json())

    @precondition(lambda self: self.candidate.requests > 0)
    @rule()
    def lose_the_counters(self):
        self.reset = self.state.candidate_seen.requests > 0
        self.candidate = ArmCounts()
        self.judge(self.candidate, self.baseline)
        assert not self.reset or self.state.stage is not Stage.RUNNING

    @invariant()
    def only_proof_of_every_step_promotes_and_an_end_is_an_end(self):
        if self.ended:
            assert self.state.stage is self.ended
        elif self.state.stage is not Stage.RUNNING:
            self.ended = self.state.stage
        steps = len(self.policy.steps_percent)
        assert (self.state.stage is Stage.PROMOTED) == (self.proven_steps == steps)


CanaryMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestCanaryMachine = CanaryMachine.TestCase
