"""What jobs cost: nothing that was paid for is left out, nothing is counted twice, and a spent budget blocks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.cost import (
    NOT_REGISTERED,
    RUNNING,
    Asked,
    Bill,
    Spent,
    bill,
    not_billed,
    over_budget,
    running_in,
    spent_in,
)
from llmops_core.facts import Fact, Kind

WEIGHTS, BASE, OTHER, EVALUATION = "a" * 64, "b" * 64, "c" * 64, "d" * 64


def fact(sequence: int, kind: Kind, subject: str, body: dict, fingerprint: str = "", month: str = "2026-11") -> Fact:
    at = f"{month}-03T00:00:00.000+00:00"
    return Fact(
        sequence=sequence,
        at=at,
        kind=kind,
        model="tiny",
        subject=subject,
        fingerprint=fingerprint,
        body=body,
        previous="",
    )


def spent(sequence: int, fingerprint: str, hours: float, outcome: str = "succeeded", month: str = "2026-11") -> Fact:
    body = Spent("job", sequence, outcome, hours * 3600, gpu_count=2, gpu_type="a100", price_per_hour=3.0).as_body()
    return fact(sequence, "spent", "weights", body, fingerprint, month)


def registered(
    sequence: int, version: str, weights: str = WEIGHTS, base: str = BASE, evaluation: str = EVALUATION
) -> Fact:
    return fact(
        sequence,
        "produced",
        "registered_version",
        {
            "version": version,
            "facts": {"weights_digest": weights, "base_digest": base, "evaluation_digest": evaluation},
        },
    )


def made(sequence: int, subject: str, fingerprint: str, digest: str) -> Fact:
    return fact(sequence, "produced", subject, {"digest": digest}, fingerprint)


def test_a_failed_attempt_was_not_paid_for() -> None:
    (line,) = bill([spent(1, "w", 1, "out_of_memory"), spent(2, "w", 2)], "month")
    assert (line.attempts, line.gpu_seconds, line.cost, line.wasted) == (2, 6 * 3600, 18.0, 6.0)


def test_an_attempt_that_older_records_know_was_billed_again_or_a_later_one_of_its_name_was_not() -> None:
    before, later, again = (
        Spent("tiny-a1", 1, "lost", 60, 1, "a100", 60.0, attempt_id=each) for each in ("", "one", "two")
    )
    assert before.key == "spent:tiny-a1", "as it stands in ledgers of before attempts had ids"
    assert len({before.key, later.key, again.key}) == 3 and later.as_body()["attempt_id"] == "one"
    body = {name: value for name, value in before.as_body().items() if name != "attempt_id"}
    assert spent_in([fact(1, "spent", "weights", body)], "2026-11") == 1


def test_a_version_did_not_cost_its_base_or_cost_what_another_version_shares() -> None:
    history = [
        spent(1, "fb", 4),
        made(2, "base_weights", "fb", BASE),
        spent(3, "fw", 1),
        made(4, "weights", "fw", WEIGHTS),
        registered(5, "1"),
        registered(6, "2"),  # another threshold, the same weights
        spent(7, "fx", 1),
        made(8, "weights", "fx", OTHER),
        registered(9, "10", weights=OTHER),
        spent(10, "failed", 1, "failed_by_input"),
    ]
    costs = {line.period: line.cost for line in bill(history, "version")}
    assert costs == {"1": 30.0, "10": 6.0, NOT_REGISTERED: 6.0}
    assert [line.period for line in bill(history, "version")] == [NOT_REGISTERED, "1", "10"]


def test_an_evaluation_was_billed_to_no_version_or_a_stage_was_mixed_with_others() -> None:
    history = [
        spent(1, "fw", 1),
        made(2, "weights", "fw", WEIGHTS),
        fact(3, "spent", "evaluation", spent(3, "", 2).body, "fe"),
        made(4, "evaluation", "fe", EVALUATION),
        fact(5, "spent", "evaluation", spent(5, "", 3).body, "refused"),
        registered(6, "1"),
    ]
    assert {line.period: line.cost for line in bill(history, "version")} == {"1": 18.0, NOT_REGISTERED: 18.0}
    assert {line.period: line.cost for line in bill(history, "stage")} == {"weights": 6.0, "evaluation": 30.0}


def test_weights_made_twice_with_the_same_bytes_were_paid_once() -> None:
    history = [
        spent(1, "f1", 1),
        made(2, "weights", "f1", WEIGHTS),
        spent(3, "f2", 1),
        made(4, "weights", "f2", WEIGHTS),
    ]
    (line,) = bill([*history, registered(5, "1")], "version")
    assert (line.period, line.cost, line.attempts) == ("1", 12.0, 2)


def test_a_job_over_midnight_was_of_one_month() -> None:
    months = {"2026-10": 7200.0, "2026-11": 3600.0}
    body = Spent("job", 1, "crashed", 5400, gpu_count=2, gpu_type="a100", price_per_hour=3.0, months=months).as_body()
    history = [fact(1, "spent", "weights", body, "w")]
    told = [(line.period, line.attempts, line.gpu_seconds, line.cost, line.wasted) for line in bill(history, "month")]
    assert told == [("2026-10", 0, 7200.0, 6.0, 6.0), ("2026-11", 1, 3600.0, 3.0, 3.0)]
    assert (spent_in(history, "2026-10"), spent_in(history, "2026-11"), spent_in(history, "2026-12")) == (6.0, 3.0, 0)
    (line,) = bill(history, "version")
    assert (line.attempts, line.cost) == (1, 9.0)


def test_jobs_that_run_were_no_part_of_the_budget() -> None:
    months = {"2026-10": 3600.0, "2026-11": 7200.0}
    runs = Bill(Asked("tiny", "weights", "f"), Spent("job", 1, RUNNING, 1, 2, "a100", 3.0, months))
    running = running_in([runs, runs], "2026-11")
    assert running == 12.0
    assert over_budget([spent(1, "w", 1)], "2026-11", 17.0, running) == (
        "18.00 of the budget of 17.00 for 2026-11 are spent (12.00 of it by jobs that run now); "
        "raise budget.per_month, or wait"
    )
    assert over_budget([spent(1, "w", 1)], "2026-11", 19.0, running) == ""


def test_months_were_mixed() -> None:
    history = [spent(1, "w", 1, month="2026-10"), spent(2, "w", 2)]
    assert [(line.period, line.cost) for line in bill(history, "month")] == [("2026-10", 6.0), ("2026-11", 12.0)]
    assert spent_in(history, "2026-11") == 12.0


@pytest.mark.parametrize(("budget", "blocks"), [(12.0, True), (11.9, True), (12.1, False)])
def test_a_spent_budget_let_jobs_start_or_one_with_money_left_did_not(budget: float, blocks: bool) -> None:
    assert bool(over_budget([spent(1, "w", 2)], "2026-11", budget)) is blocks
    assert over_budget([spent(1, "w", 2)], "2026-12", budget) == ""


def test_a_later_price_changed_what_was_paid() -> None:
    body = Spent("job", 1, "succeeded", 3600, 1, "a100", 3.0).as_body()
    assert body["cost"] == 3.0 and body["gpu_seconds"] == 3600


@given(st.lists(st.tuples(st.sampled_from(["w", "x"]), st.floats(0, 1e5), st.sampled_from(["succeeded", "crashed"]))))
def test_a_grouping_lost_or_doubled_money(attempts: list[tuple[str, float, str]]) -> None:
    history = [spent(index, *attempt) for index, attempt in enumerate(attempts, 1)]
    whole = sum(each.body["cost"] for each in history)
    for by in ("version", "month"):
        assert sum(line.cost for line in bill(history, by)) == pytest.approx(whole, abs=1e-3)


def test_a_job_that_was_ended_and_still_goes_was_paid_for_twice() -> None:
    """Its bill is written when it is ended; its pods have a minute to go, on a node that is lost for ever."""
    told = Spent("job", 1, RUNNING, 3600, 2, "a100", 3.0, {"2026-11": 7200.0}, "first")
    again = replace(told, attempt_id="second")
    facts = [fact(1, "spent", "weights", replace(told, outcome="cancelled").as_body(), WEIGHTS)]
    bills = [Bill(Asked("tiny", "weights", WEIGHTS), each) for each in (told, again)]
    assert [each.spent.attempt_id for each in not_billed(bills, facts)] == ["second"]
    assert not_billed(bills, []) == bills
