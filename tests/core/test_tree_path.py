"""Paths from outside: whatever is let through must stay below the folder it is joined to."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.tree_path import checked_path, checked_paths

NASTY = st.text(alphabet="ab./\\\0\n~ü", max_size=12)


@given(NASTY)
def test_a_checked_path_stays_below_its_folder(text):
    try:
        path = checked_path(text)
    except ValueError:
        return
    assert not path.startswith("/")
    assert ".." not in PurePosixPath(path).parts
    assert str(PurePosixPath(path)) == path


@pytest.mark.parametrize(
    "text", ["", None, 3, "/a", "a/", "a//b", "./a", "a/..", "a\\b", "a\0b", "\u202eb", "x" * 1025]
)
def test_refused(text):
    with pytest.raises(ValueError, match=r"path|longer|cannot be shown"):
        checked_path(text)


def test_names_that_are_merely_unusual_are_kept():
    assert checked_paths(["..a", "a..b/…", "~", "a b/c"]) == ("..a", "a..b/…", "~", "a b/c")


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "a/b"], ["a/b/c/d", "a/b"]])
def test_paths_that_cannot_stand_side_by_side(paths):
    with pytest.raises(ValueError, match=r"twice|both a file"):
        checked_paths(paths)
