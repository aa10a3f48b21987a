"""A version's facts: what is signed, what is tagged, and how a disagreement reads."""

import json

import pytest
from pydantic import ValidationError

from llmops_core.approval import APPROVAL_NAMESPACE
from llmops_core.errors import IntegrityError
from llmops_core.registration import VERSION_NAMESPACE, VersionFacts, differences

FACTS = VersionFacts(
    model="llama-3.1-8b",
    semver="1.0.0-rc.1",
    revision="a" * 40,
    data_digest="1" * 64,
    data_hash="0" * 32 + ".dir",
    base_digest="2" * 64,
    weights_digest="3" * 64,
    evaluation_digest="4" * 64,
    fingerprint="5" * 64,
)


@pytest.mark.parametrize("field", sorted(set(VersionFacts.model_fields) - {"model", "semver", "revision", "data_hash"}))
def test_a_changed_fact_changes_what_is_signed_and_is_named(field: str) -> None:
    changed = FACTS.model_copy(update={field: "e" * 64})
    assert changed.statement() != FACTS.statement()
    (sentence,) = differences(FACTS.tags(), changed.tags())
    assert f"llmops.{field}" in sentence and "e" * 64 in sentence


def test_a_missing_tag_is_a_difference_and_a_foreign_one_is_not() -> None:
    tags = FACTS.tags()
    del tags["llmops.data_hash"]
    (sentence,) = differences(FACTS.tags(), {**tags, "mlflow.note": "x"})
    assert sentence.startswith("llmops.data_hash is missing")


def test_facts_come_back_from_tags_and_anything_else_is_refused() -> None:
    tags = {**FACTS.tags(), "mlflow.note": "x"}
    assert VersionFacts.from_tags("llama-3.1-8b", tags) == FACTS
    for broken in ({**tags, "llmops.revision": "main"}, {k: v for k, v in tags.items() if k != "llmops.semver"}):
        with pytest.raises(IntegrityError, match="are no facts"):
            VersionFacts.from_tags("llama-3.1-8b", broken)


def test_a_signed_version_can_never_pass_for_a_signed_approval() -> None:
    assert VERSION_NAMESPACE != APPROVAL_NAMESPACE
    assert json.loads(FACTS.statement())["kind"] == "llmops.version/1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "Atlas_QA"),
        ("model", "a/b"),
        ("semver", "1.0"),
        ("semver", "1.0.0\n"),
        ("revision", "main"),
        ("revision", "a" * 39),
        ("data_digest", "A" * 64),
        ("data_digest", "1" * 63),
        ("data_digest", ""),
        ("data_hash", "z" * 32),
        ("weights_digest", None),
    ],
)
def test_a_fact_that_is_not_known_exactly_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        VersionFacts.model_validate({**FACTS.model_dump(), field: value})
