"""What pods used: from their own containers' times, each pod for itself, in the months in which it ran."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.job_usage import PodUse, by_month, span_seconds, together, use_of


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-{text}:00+00:00").timestamp()


def state(began: str, ended: str = "") -> dict[str, Any]:
    times = {"startedAt": f"2026-{began}:00Z", **({"finishedAt": f"2026-{ended}:00Z"} if ended else {})}
    return {"terminated" if ended else "running": times}


def pod(*states: dict[str, Any], leaving: str = "", **last: Any) -> dict[str, Any]:
    metadata = {"uid": "uid", **({"deletionTimestamp": f"2026-{leaving}:00Z"} if leaving else {})}
    return {"metadata": metadata, "status": {"containerStatuses": [{"state": each, **last} for each in states]}}


NOW = at("11-03T12:00")


def test_a_pod_was_billed_for_what_it_did_not_run_or_not_for_what_it_ran() -> None:
    assert use_of(pod(state("11-03T08:00", "11-03T09:00")), NOW) == PodUse("uid", at("11-03T08:00"), at("11-03T09:00"))
    assert use_of(pod(state("11-03T08:00")), NOW) == PodUse("uid", at("11-03T08:00"), NOW)
    assert use_of(pod({"waiting": {"reason": "ImagePullBackOff"}}), NOW) is None
    assert use_of({"metadata": {"uid": "uid"}, "status": {}}, NOW) is None


def test_a_clock_that_is_behind_the_cluster_s_gave_money_back() -> None:
    used = use_of(pod(state("11-03T12:30")), NOW)
    assert used is not None and used.seconds == span_seconds([used]) == 0
    assert span_seconds([PodUse("uid", 10, 5)]) == 0


def test_a_pod_that_was_deleted_long_ago_counted_until_now() -> None:
    used = use_of(pod(state("11-03T08:00"), leaving="11-03T08:30"), NOW)
    assert used is not None and used.ended == at("11-03T08:30")
    used = use_of(pod(state("11-03T08:00"), leaving="11-03T13:00"), NOW)
    assert used is not None and used.ended == NOW


def test_a_container_that_was_started_again_forgot_its_first_start() -> None:
    used = use_of(pod(state("11-03T10:00"), lastState=state("11-03T07:00", "11-03T09:00")), NOW)
    assert used == PodUse("uid", at("11-03T07:00"), NOW)


def test_what_the_cluster_says_was_not_preferred_or_a_pod_counted_twice() -> None:
    known, written = PodUse("a", 0, 10), [PodUse("a", 0, 3), PodUse("b", 5, 6)]
    assert together([known], written) == [known, PodUse("b", 5, 6)]


def test_pods_of_uneven_length_were_billed_as_one_long_one() -> None:
    uses = [PodUse("a", NOW, NOW + 3600), PodUse("b", NOW + 600, NOW + 1200)]
    assert by_month(uses) == {"2026-11": 4200.0} and span_seconds(uses) == 3600


@pytest.mark.parametrize(
    ("began", "ended", "told"),
    [
        ("10-31T23:00", "11-01T02:00", {"2026-10": 3600.0, "2026-11": 7200.0}),
        ("10-31T23:00", "11-01T00:00", {"2026-10": 3600.0}),
        ("11-01T00:00", "11-01T01:00", {"2026-11": 3600.0}),
        ("12-31T23:00", "12-31T23:30", {"2026-12": 1800.0}),
    ],
)
def test_a_months_end_was_in_the_wrong_month(began: str, ended: str, told: dict[str, float]) -> None:
    assert by_month([PodUse("a", at(began), at(ended))]) == told


@given(st.lists(st.tuples(st.floats(1.6e9, 1.9e9), st.floats(0, 2e7))))
def test_months_lost_or_made_seconds(spans: list[tuple[float, float]]) -> None:
    uses = [PodUse(str(index), began, began + lasts) for index, (began, lasts) in enumerate(spans)]
    months = by_month(uses)
    assert sum(months.values()) == pytest.approx(sum(use.seconds for use in uses), rel=1e-9, abs=1e-3)
    assert all(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC) for month in months)
