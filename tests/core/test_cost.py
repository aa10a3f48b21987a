"""What jobs cost: nothing that was paid for is left out, nothing is counted twice, and a spent budget blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.cost import NOT_REGISTERED, Spent, bill, over_budget, spent_in
from llmops_core.facts import Fact, Kind

WEIGHTS, BASE, OTHER = "a" * 64, "b" * 64, "c" * 64


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


def registered(sequence: int, version: str, weights: str = WEIGHTS, base: str = BASE) -> Fact:
    return fact(
        sequence,
        "produced",
        "registered_version",
        {"version": version, "facts": {"weights_digest": weights, "base_digest": base}},
    )


def made(sequence: int, subject: str, fingerprint: str, digest: str) -> Fact:
    return fact(sequence, "produced", subject, {"digest": digest}, fingerprint)


def test_a_failed_attempt_was_not_paid_for() -> None:
    (line,) = bill([spent(1, "w", 1, "out_of_memory"), spent(2, "w", 2)], "month")
    assert (line.attempts, line.gpu_seconds, line.cost, line.wasted) == (2, 6 * 3600, 18.0, 6.0)


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
