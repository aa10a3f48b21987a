"""An index that missed a change, or read more than what changed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.data.file_index import FileIndex
from resources.git.source import GitSource
from tests.fakes.git_with_data import GitWithData


@pytest.fixture
def repository(tmp_path: Path) -> GitWithData:
    return created(tmp_path / "r")


def created(path: Path) -> GitWithData:
    path.mkdir()
    made = GitWithData(path)
    made.git("init", "--quiet", "--template=", "--initial-branch", "main")
    made.commit({"a.txt": "1", "b/c.txt": "2", "b/d.bin": "3"})
    return made


def index(repository: GitWithData, read: list[str]) -> FileIndex[bytes]:
    source = GitSource(repository.path)

    def parse(revision: str, path: str) -> bytes:
        read.append(path)
        return source.read(revision, path) or b""

    return FileIndex(source, lambda path: path.endswith(".txt"), parse)


def test_more_than_the_difference_was_read(repository: GitWithData) -> None:
    read: list[str] = []
    found = index(repository, read)
    assert found.at(repository.head).values == {"a.txt": b"1", "b/c.txt": b"2"}
    read.clear()
    head = repository.commit({"b/c.txt": "4", "b/d.bin": "5", "e.txt": "6"})
    assert found.at(head).values == {"a.txt": b"1", "b/c.txt": b"4", "e.txt": b"6"}
    assert sorted(read) == ["b/c.txt", "e.txt"]
    assert found.at(head).values is found.at(head).values


def test_a_removed_file_stayed(repository: GitWithData) -> None:
    found = index(repository, [])
    found.at(repository.head)
    repository.git("rm", "--quiet", "a.txt")
    repository.git("commit", "--quiet", "--message", "gone")
    assert found.at(repository.head).values == {"b/c.txt": b"2"}


def test_a_file_that_another_one_rules_was_not_read_again(repository: GitWithData) -> None:
    read: list[str] = []
    source = GitSource(repository.path)
    ruled = FileIndex(
        source,
        lambda path: path.endswith(".txt"),
        lambda revision, path: read.append(path),
        affected=lambda path: path.replace(".bin", ".txt").replace("d", "c"),
    )
    ruled.at(repository.head)
    read.clear()
    ruled.at(repository.commit({"b/d.bin": "other rules"}))
    assert read == ["b/c.txt"]


def test_a_revision_that_is_gone_left_old_values(repository: GitWithData) -> None:
    found = index(repository, [])
    first = repository.head
    found.at(first)
    repository.git("commit", "--quiet", "--amend", "--message", "rewritten")
    repository.git("rm", "--quiet", "--cached", "a.txt")
    repository.git("commit", "--quiet", "--amend", "--message", "without a")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    assert found.at(repository.head).values == {"b/c.txt": b"2"}


trees = st.dictionaries(st.sampled_from(["a.txt", "x/b.txt", "x/y/c.txt", "d.bin"]), st.sampled_from("123"), min_size=1)


@settings(max_examples=15)
@given(st.lists(trees, min_size=2, max_size=4))
def test_the_next_revision_differed_from_reading_it_whole(tmp_path_factory, snapshots: list[dict[str, str]]) -> None:
    repository = created(tmp_path_factory.mktemp("index") / "r")
    incremental = index(repository, [])
    for number, files in enumerate(snapshots):
        repository.git("rm", "-r", "--quiet", "--ignore-unmatch", ".")
        repository.commit({**files, "always": str(number)})
        assert incremental.at(repository.head).values == index(repository, []).at(repository.head).values
