"""Attacks on the gates: evidence that is missing, failed, of another artefact or of another time."""

import pytest

from llmops_core.errors import GateRefused
from llmops_core.facts import Kind
from llmops_core.plan import STAGES, fingerprints
from llmops_core.promotion import current, require, serves
from tests.core.releases import History, inputs, with_spec

PRINTS = fingerprints(inputs())


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_was_reached_without_the_one_before_it(stage: str) -> None:
    history = History()
    history.produce_until(PRINTS, STAGES[STAGES.index(stage) - 1])
    require(stage, current(history.facts, PRINTS))
    history.facts.pop()
    with pytest.raises(GateRefused, match="materialize it first"):
        require(stage, current(history.facts, PRINTS))


@pytest.mark.parametrize("verdict", ["failed", "inconclusive", "error", "", "PASSED", None, True])
def test_anything_but_passed_counted_as_passed(verdict: object) -> None:
    history = History()
    history.produce_until(PRINTS, "weights")
    history.produce(PRINTS, "evaluation", verdict=verdict, reason="0.2 is below 0.95")
    with pytest.raises(GateRefused, match=r"0\.2 is below"):
        require("registered_version", current(history.facts, PRINTS))


def test_an_evaluation_of_other_weights_with_the_same_fingerprint_counted() -> None:
    history = History()
    history.produce_until(PRINTS, "evaluation")
    history.produce(PRINTS, "weights", salt=" trained again")
    found = current(history.facts, PRINTS)
    assert "evaluation" not in found
    with pytest.raises(GateRefused):
        require("registered_version", found)


def test_evidence_of_another_revision_of_the_inputs_counted() -> None:
    history = History()
    history.produce_until(PRINTS, "canary")
    other = fingerprints(with_spec("training", learning_rate=10.0))
    assert set(current(history.facts, other)) == {"dataset", "base_weights"}
    with pytest.raises(GateRefused):
        require("production", current(history.facts, other))


def test_a_later_failure_did_not_replace_an_earlier_pass() -> None:
    history = History()
    history.produce_until(PRINTS, "staging_tests")
    history.produce(PRINTS, "staging_tests", salt=" again", verdict="failed", reason="too slow")
    with pytest.raises(GateRefused, match="too slow"):
        require("approval", current(history.facts, PRINTS))


@pytest.mark.parametrize("left_percent", [0, 50])
@pytest.mark.parametrize(
    ("kind", "subject", "named"),
    [
        ("refused", "canary", "candidate"),
        ("intended", "way_back", "rolled_back"),
        ("intended", "rollback", "rolled_back"),
    ],
)
def test_a_canary_whose_traffic_is_taken_back_proved_that_it_may_have_all(
    kind: Kind, subject: str, named: str, left_percent: int
) -> None:
    history = History()
    history.produce_until(PRINTS, "approval")
    history.produce(PRINTS, "canary", deployment="v1")
    body = {"reason": "nobody promoted it", "left_percent": left_percent}
    history.add(kind, subject, **body, **{named: "v2"})
    require("production", current(history.facts, PRINTS))
    history.add(kind, subject, **body, **{named: "v1"})
    with pytest.raises(GateRefused, match="no current canary"):
        require("production", current(history.facts, PRINTS))


def test_a_canary_that_lost_its_share_to_another_one_proved_that_it_may_have_all() -> None:
    history = History()
    history.produce_until(PRINTS, "approval")
    history.produce(PRINTS, "canary", deployment="v1")
    history.add("intended", "canary", candidate="v2")
    with pytest.raises(GateRefused, match="no current canary"):
        require("production", current(history.facts, PRINTS))


def test_what_serves_lost_its_proof_to_the_canary_after_it() -> None:
    history = History()
    history.produce_until(PRINTS, "approval")
    history.produce(PRINTS, "canary", deployment="v1")
    history.produce(PRINTS, "production", deployment="v1")
    history.add("switched", "production", deployment="v1", state="serving")
    history.add("intended", "canary", candidate="v2")
    assert serves(history.facts, PRINTS)


def test_production_counted_as_serving_without_traffic_or_after_a_rollback() -> None:
    history = History()
    history.produce_until(PRINTS, "canary")
    assert not serves(history.facts, PRINTS)
    history.produce(PRINTS, "production", deployment="atlas-qa-v1")
    assert not serves(history.facts, PRINTS)
    history.add("switched", "production", deployment="atlas-qa-v1", state="serving")
    assert serves(history.facts, PRINTS)
    history.add("switched", "production", deployment="atlas-qa-v0", state="serving")
    assert not serves(history.facts, PRINTS)
    history.add("switched", "production", deployment="atlas-qa-v1", state="canary")
    assert not serves(history.facts, PRINTS)


def test_a_proof_outlived_the_rollback_of_what_it_proved() -> None:
    history = History()
    history.produce_until(PRINTS, "approval")
    history.produce(PRINTS, "canary", deployment="atlas-qa-v1")
    history.add("switched", "production", deployment="atlas-qa-v0", rolled_back="atlas-qa-v1", state="serving")
    with pytest.raises(GateRefused, match="no current canary"):
        require("production", current(history.facts, PRINTS))
    history.produce(PRINTS, "canary", salt=" again", deployment="atlas-qa-v1")
    require("production", current(history.facts, PRINTS))
