"""A cursor that was not understood, or was trusted although the rules have changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.cursor import Cursor, read_cursor

names = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)


@given(st.from_regex(r"[0-9a-f]{40}", fullmatch=True), st.dictionaries(names, st.integers(1, 10**6)))
def test_a_cursor_was_not_read_as_it_was_written(revision: str, waiting: dict[str, int]) -> None:
    cursor = Cursor(revision, waiting=waiting)
    assert read_cursor(str(cursor)) == cursor


@pytest.mark.parametrize("text", [None, "", "nonsense", "a" * 40, "[]", '{"revision": 3}', "{" * 100])
def test_a_text_of_nobody_was_taken_for_a_cursor(text: str | None) -> None:
    assert read_cursor(text) is None


def test_what_other_rules_decided_was_kept() -> None:
    assert read_cursor(str(Cursor("a" * 40, rules="older"))) is None
