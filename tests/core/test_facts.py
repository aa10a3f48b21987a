"""A ledger that somebody edited must not pass for one that nobody did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.facts import GENESIS, Fact, first_broken, latest


def chain(count: int) -> list[Fact]:
    facts: list[Fact] = []
    for number in range(1, count + 1):
        facts.append(
            Fact(
                sequence=number,
                at=f"2026-01-01T00:00:{number:02d}.000+00:00",
                kind="produced",
                model="atlas",
                subject="weights",
                fingerprint="f" * 64,
                body={"digest": f"{number:064x}"},
                previous=facts[-1].digest if facts else GENESIS,
            ).sealed()
        )
    return facts


@given(st.integers(0, 20))
def test_an_untouched_chain_was_called_broken(count: int) -> None:
    assert first_broken(chain(count)) is None


@given(st.data())
def test_an_edited_body_was_not_noticed(data: st.DataObject) -> None:
    facts = chain(data.draw(st.integers(1, 12)))
    index = data.draw(st.integers(0, len(facts) - 1))
    facts[index] = facts[index].model_copy(update={"body": {"digest": "0" * 64}})
    assert first_broken(facts) == facts[index]


@given(st.data())
def test_an_edited_and_resealed_fact_was_not_noticed(data: st.DataObject) -> None:
    facts = chain(data.draw(st.integers(2, 12)))
    index = data.draw(st.integers(0, len(facts) - 2))
    facts[index] = facts[index].model_copy(update={"body": {}}).sealed()
    assert first_broken(facts) == facts[index + 1]


@given(st.data())
def test_a_dropped_fact_was_not_noticed(data: st.DataObject) -> None:
    facts = chain(data.draw(st.integers(2, 12)))
    index = data.draw(st.integers(0, len(facts) - 2))
    del facts[index]
    assert first_broken(facts) is not None


def test_swapped_facts_were_not_noticed() -> None:
    facts = chain(4)
    facts[1], facts[2] = facts[2], facts[1]
    assert first_broken(facts) == facts[1]


@pytest.mark.parametrize("field", ["at", "kind", "model", "subject", "fingerprint"])
def test_a_field_outside_of_the_digest_could_be_edited(field: str) -> None:
    facts = chain(3)
    value = "refused" if field == "kind" else "other"
    facts[2] = facts[2].model_copy(update={field: value})
    assert first_broken(facts) == facts[2]


def test_latest_returned_an_older_fact_or_one_of_another_model() -> None:
    facts = chain(3)
    other = facts[2].model_copy(update={"model": "other"})
    assert latest([*facts, other], "produced", model="atlas") == facts[2]
    assert latest(facts, "refused") is None
    assert latest(facts, "produced", subject="dataset") is None
