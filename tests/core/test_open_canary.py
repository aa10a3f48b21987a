"""Which canary is open: one that nobody sees would keep its share of production."""

import pytest

from llmops_core.facts import GENESIS, Fact
from llmops_core.open_canary import open_canary


def _facts(*told: tuple[str, str, dict]) -> list[Fact]:
    return [
        Fact(
            sequence=number,
            at=f"2026-01-01T00:00:{number:02}.000+00:00",
            kind=kind,  # type: ignore[arg-type]
            model="tiny",
            subject=subject,
            fingerprint=body.get("fingerprint", "f"),
            body=body,
            previous=GENESIS,
        ).sealed()
        for number, (kind, subject, body) in enumerate(told, start=1)
    ]


BEGUN = ("intended", "canary", {"candidate": "v2", "revision": "a", "share_percent": 10})


def _tick(action: str, weight: int) -> tuple[str, str, dict]:
    return ("ticked", "canary", {"candidate": "v2", "action": action, "weight_percent": weight})


@pytest.mark.parametrize(
    "end",
    [
        ("produced", "canary", {"verdict": "failed"}),
        ("switched", "production", {"deployment": "v2"}),
        ("switched", "production", {"deployment": None}),
        ("retired", "production", {"reason": "x"}),
        ("refused", "canary", {"reason": "x", "left_percent": 0}),
    ],
)
def test_a_canary_that_ended_was_gone_on_with(end: tuple[str, str, dict]) -> None:
    assert open_canary(_facts(BEGUN)) is not None
    assert open_canary(_facts(BEGUN, _tick("hold", 10), end)) is None


@pytest.mark.parametrize(
    "other",
    [
        ("produced", "canary", {"verdict": "failed", "fingerprint": "another"}),
        ("switched", "staging", {"deployment": "v3"}),
        ("refused", "canary", {"reason": "x", "run_id": "r", "revision": "another"}),
        ("refused", "run", {"reason": "died", "run_id": "r", "revision": "a"}),
    ],
)
def test_a_fact_of_something_else_hid_a_canary(other: tuple[str, str, dict]) -> None:
    canary = open_canary(_facts(BEGUN, other))
    assert canary is not None and canary.over == ""


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        (("refused", "canary", {"reason": "x", "left_percent": 50}), "its run ended: x"),
        (("refused", "approval", {"reason": "x", "run_id": "r", "revision": "a"}), "its release was refused: x"),
        (("intended", "rollback", {"reason": "x"}), "a person rolled it back: x"),
        (("intended", "way_back", {"reason": "x"}), "x"),
        (("retired", "folder", {"reason": "x"}), "the model's folder was removed"),
    ],
)
def test_a_release_that_cannot_go_on_was_started_again(fact: tuple[str, str, dict], told: str) -> None:
    canary = open_canary(_facts(BEGUN, fact, _tick("hold", 10)))
    assert canary is not None and canary.over == told


@pytest.mark.parametrize(
    ("fact", "goes_back"),
    [
        (("intended", "way_back", {"reason": "x"}), True),
        (("intended", "rollback", {"reason": "x"}), True),
        (("refused", "canary", {"reason": "x", "left_percent": 50}), True),
        (("refused", "approval", {"reason": "x", "run_id": "r", "revision": "a"}), False),
        (("retired", "folder", {"reason": "x"}), False),
    ],
)
def test_a_candidate_whose_traffic_goes_back_was_given_more(fact: tuple[str, str, dict], goes_back: bool) -> None:
    canary = open_canary(_facts(BEGUN, _tick("step", 50), fact, _tick("hold", 50)))
    assert canary is not None and canary.goes_back is goes_back


def test_a_canary_that_passed_was_closed_before_its_promotion() -> None:
    passed = ("produced", "canary", {"verdict": "passed"})
    canary = open_canary(_facts(BEGUN, _tick("step", 50), _tick("promote", 100), passed))
    assert canary is not None and canary.has_passed and canary.share_percent == 50 and canary.over == ""
    assert canary.told.endswith("00:00:04 UTC, passed and not promoted yet")
    promoting = ("intended", "production", {"deployment": "v2"})
    refused = ("refused", "production", {"reason": "x", "run_id": "r", "revision": "a"})
    canary = open_canary(_facts(BEGUN, _tick("step", 50), passed, promoting, refused))
    assert canary is not None and canary.share_percent == 100 and canary.over == "its release was refused: x"
    other = ("intended", "production", {"deployment": "v3"})
    canary = open_canary(_facts(BEGUN, _tick("step", 50), passed, other))
    assert canary is not None and canary.share_percent == 50


def test_a_way_back_that_nobody_wrote_to_be_gone_was_believed() -> None:
    canary = open_canary(_facts(BEGUN, _tick("step", 50), _tick("roll_back", 0)))
    assert canary is not None and canary.share_percent == 50
    assert canary.told == "v2 has up to 50 % of production; last judged at 2026-01-01 00:00:03 UTC"
    first = open_canary(_facts(BEGUN))
    assert first is not None and first.share_percent == 10
