"""What is kept beside a fingerprint says what differs, cannot be edited, and lets new rules come."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.made_of import RULES, MadeOf, compare, fingerprints_of, kept, made_of, read_kept

UPSTREAM: dict[str, tuple[str, ...]] = {"dataset": (), "weights": ("dataset",), "production": ("weights",)}
PARTS = {
    "dataset": {"data": {"path": "data/x"}, RULES: 1},
    "weights": {"steps": 10, "rate": 0.1, RULES: 1},
    "production": {"depends_on": [], RULES: 1},
}
plain = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


def parts_with(stage: str, **changes: object) -> MadeOf:
    values = {**PARTS[stage], **changes}
    return made_of({**PARTS, stage: {name: v for name, v in values.items() if v is not ...}}, UPSTREAM)


@given(st.fixed_dictionaries({stage: st.dictionaries(st.text(), plain) for stage in UPSTREAM}))
def test_what_was_kept_gave_another_fingerprint(parts: dict[str, dict[str, object]]) -> None:
    made = made_of({stage: parts[stage] for stage in UPSTREAM}, UPSTREAM)
    read = read_kept(json.loads(json.dumps(kept(made), sort_keys=True)))
    assert read == made and read is not None and fingerprints_of("m", read) == fingerprints_of("m", made)
    assert compare(read, made).other == compare(read, made).gone == compare(read, made).new == ()


@pytest.mark.parametrize("stage", UPSTREAM)
def test_an_edited_ingredient_left_the_fingerprint_as_it_was(stage: str) -> None:
    made, edited = made_of(PARTS, UPSTREAM), parts_with(stage, more=1)
    assert fingerprints_of("m", made)["production"] != fingerprints_of("m", edited)["production"]
    assert fingerprints_of("m", made) != fingerprints_of("other", made)


def test_another_value_was_taken_for_another_rule_or_the_other_way_round() -> None:
    now = made_of(PARTS, UPSTREAM)
    assert compare(parts_with("weights", steps=11), now).other == ("weights: steps",)
    assert compare(parts_with("weights", rate=...), now).new == ("weights: rate",)
    assert compare(parts_with("weights", extra=1), now).gone == ("weights: extra",)
    found = compare(parts_with("weights", **{RULES: 0}), now)
    assert (found.other, found.gone, found.new) == ((), (f"weights: {RULES}",), ())


@pytest.mark.parametrize("document", [None, {}, [], "x", {"stages": [{}]}, {"stages": [{"stage": "a"}]}, {"stages": 5}])
def test_what_nobody_here_wrote_was_read(document: object) -> None:
    assert read_kept(document) is None
