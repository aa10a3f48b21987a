"""Counts of requests: their differences, and what may be concluded from them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops_core.traffic_counts import TrafficCounts

EDGES = (0.1, 0.5, 2.0)
NONE = TrafficCounts(requests=0, failures=0, abandoned=0, edges_seconds=EDGES, faster=(0, 0, 0))


def counts_of(outcomes: list[tuple[str, float]]) -> TrafficCounts:
    """Outcomes are (ok | failed | broken | left, seconds)."""
    ended = [(kind, seconds) for kind, seconds in outcomes if kind != "left"]
    return TrafficCounts(
        requests=len(ended),
        failures=sum(kind in ("failed", "broken") for kind, _ in ended),
        abandoned=len(outcomes) - len(ended),
        edges_seconds=EDGES,
        faster=tuple(sum(s < edge and kind != "broken" for kind, s in ended) for edge in EDGES),
    )


outcomes = st.lists(st.tuples(st.sampled_from(["ok", "failed", "broken", "left"]), st.floats(0.0, 5.0)), max_size=60)


@given(outcomes, outcomes)
def test_a_difference_is_exactly_what_happened_in_between(first: list, second: list) -> None:
    assert counts_of(first + second).minus(counts_of(first)) == counts_of(second)


@given(outcomes)
def test_after_a_restart_of_the_gateway_nothing_is_lost_and_nothing_negative(second: list) -> None:
    before = counts_of([("ok", 0.01)] * 100)
    assert counts_of(second).minus(before) == counts_of(second)


@given(outcomes)
def test_every_failure_without_an_answer_is_slow_at_every_threshold(listed: list) -> None:
    broken = sum(kind == "broken" for kind, _ in listed)
    assert all(counts_of(listed).slow(edge) >= broken for edge in EDGES)


def test_a_threshold_that_is_no_edge_is_refused_instead_of_rounded() -> None:
    with pytest.raises(ValueError, match="no bucket edge"):
        counts_of([("ok", 0.3)]).slow(0.4)


def test_nothing_measured_is_none_and_never_zero() -> None:
    assert NONE.failure_fraction() is None
    assert NONE.slow_fraction(0.5) is None
    assert NONE.quantile_seconds(0.95) is None


def test_fractions_of_what_was_measured() -> None:
    counts = counts_of([("ok", 0.05), ("ok", 0.6), ("failed", 0.05), ("broken", 0.0), ("left", 4.0)])
    assert (counts.requests, counts.failures, counts.abandoned) == (4, 2, 1)
    assert counts.failure_fraction() == 0.5
    assert counts.slow(0.5) == 2
    assert counts.slow_fraction(2.0) == 0.25


@given(outcomes.filter(lambda listed: any(kind != "left" for kind, _ in listed)), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(listed: list, fraction: float) -> None:
    times = sorted(math.inf if kind == "broken" else s for kind, s in listed if kind != "left")
    true = times[math.ceil(fraction * len(times)) - 1]
    edges = (0.0, *EDGES, math.inf)
    estimate = counts_of(listed).quantile_seconds(fraction)
    assert estimate is not None
    low = max(edge for edge in edges if edge <= true)
    assert low <= estimate <= min(edge for edge in edges if edge > low or edge == math.inf)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, math.nan])
def test_a_quantile_of_no_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="no fraction"):
        counts_of([("ok", 0.1)]).quantile_seconds(fraction)


@pytest.mark.parametrize(
    "broken",
    [
        {"faster": (0, 0)},
        {"faster": (2, 1, 1)},
        {"faster": (0, 0, 9)},
        {"failures": 6},
        {"requests": -1},
        {"abandoned": -1},
        {"edges_seconds": (0.5, 0.1, 2.0)},
        {"unknown": 1},
    ],
)
def test_counts_that_contradict_themselves_are_refused(broken: dict) -> None:
    sound = {"requests": 5, "failures": 1, "abandoned": 0, "edges_seconds": EDGES, "faster": (1, 2, 3)}
    TrafficCounts.model_validate(sound)
    with pytest.raises(ValidationError):
        TrafficCounts.model_validate({**sound, **broken})


def test_counts_over_different_edges_are_not_subtracted() -> None:
    other = TrafficCounts(requests=0, failures=0, abandoned=0, edges_seconds=(1.0,), faster=(0,))
    with pytest.raises(ValueError, match="different edges"):
        NONE.minus(other)


@given(outcomes)
def test_counts_survive_storage(listed: list) -> None:
    counts = counts_of(listed)
    assert TrafficCounts.model_validate_json(counts.model_dump_json()) == counts
