"""A chain that is torn or forged must not be walked to its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.errors import IntegrityError
from llmops_core.lineage import EXIT_CODES, Link, ancestry, first_not_verified, verdict_of
from llmops_core.plan import STAGES, fingerprints
from tests.core.releases import History, inputs

PRINTS = fingerprints(inputs())
VERDICTS = st.sampled_from(["verified", "broken", "incomplete"])


def links(verdicts: list[str]) -> list[Link]:
    return [Link(str(index), verdict, "") for index, verdict in enumerate(verdicts)]  # pyright: ignore


@given(st.lists(VERDICTS))
def test_a_chain_was_verified_although_a_link_was_not(verdicts: list[str]) -> None:
    verdict = verdict_of(links(verdicts))
    assert (verdict == "verified") == (bool(verdicts) and set(verdicts) == {"verified"})
    assert (verdict == "broken") == ("broken" in verdicts)
    assert EXIT_CODES[verdict] == {"verified": 0, "broken": 1, "incomplete": 2}[verdict]


@given(st.lists(VERDICTS, min_size=1))
def test_another_link_than_the_first_broken_one_was_named(verdicts: list[str]) -> None:
    named = first_not_verified(links(verdicts))
    if "broken" in verdicts:
        assert named is not None and named.name == str(verdicts.index("broken"))
    elif "incomplete" in verdicts:
        assert named is not None and named.name == str(verdicts.index("incomplete"))
    else:
        assert named is None


def test_the_walk_left_a_stage_out() -> None:
    history = History()
    history.produce_until(PRINTS, "base_weights")
    history.produce(PRINTS, "weights")
    history.facts[-1].body["inputs"]["dataset"] = "dataset"
    for stage in STAGES[3:]:
        history.produce(PRINTS, stage)
    found = ancestry(history.facts, history.facts[-1])
    assert set(found) == {*STAGES, "dataset of weights"} - {"dataset"}


def test_an_input_that_was_never_made_was_accepted() -> None:
    history = History()
    history.produce_until(PRINTS, "production")
    history.facts[-1].body["inputs"]["canary"] = "another canary"
    with pytest.raises(IntegrityError, match="canary another cana"):
        ancestry(history.facts, history.facts[-1])


def test_an_approval_of_another_version_was_accepted() -> None:
    history = History()
    history.produce_until(PRINTS, "production")
    history.produce(PRINTS, "registered_version", salt=" of other weights")
    approval = history.produce(PRINTS, "approval", salt=" for it")
    history.facts[9].body["inputs"]["approval"] = approval.body["digest"]
    with pytest.raises(IntegrityError, match="rests on registered_version"):
        ancestry(history.facts, history.facts[9])
