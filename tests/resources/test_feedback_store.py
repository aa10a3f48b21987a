"""Submissions of ratings: kept whole, by any number of writers, once each, and not to be changed afterwards."""

import multiprocessing
import os
from collections import Counter
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError
from llmops_core.ratings import Rating
from resources.data.feedback_store import FolderFeedback

ONE, TWO = Rating("Größe?", "zwei\nZeilen\u2028", 1, "eine", "2", "d" * 64, True), Rating("Why?", "so", 5)


def test_ratings_changed_by_being_stored(tmp_path: Path) -> None:
    store = FolderFeedback(tmp_path)
    first = store.submit("a.b", [ONE, TWO, TWO])
    store.submit("a.b", [TWO])
    store.submit("other", [ONE])
    assert Counter(FolderFeedback(tmp_path).ratings("a.b")) == Counter({ONE: 1, TWO: 3})
    assert not first.repeated and first.digest in first.place and Path(first.place).parent == tmp_path / "a.b"
    assert store.ratings("nobody") == []


def test_a_submission_sent_again_counted_twice(tmp_path: Path) -> None:
    store = FolderFeedback(tmp_path)
    first, again = store.submit("tiny", [ONE]), store.submit("tiny", [ONE])
    assert again.repeated and again.place == first.place
    path = Path(first.place)
    path.with_name(f"20990101T000000000000Z-{first.digest}.jsonl").write_bytes(path.read_bytes())  # sent twice at once
    assert store.ratings("tiny") == [ONE]


def _write(folder: Path, writer: int) -> None:
    store = FolderFeedback(folder)
    for number in range(20):
        store.submit("tiny", [Rating(f"{writer} asks {number}", "so", 5)])
        store.submit("tiny", [TWO])


def test_writers_lost_each_other_s_ratings(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    found = FolderFeedback(tmp_path).ratings("tiny")
    assert len(found) == len(set(found)) == 61


def test_a_draft_of_a_killed_writer_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    store = FolderFeedback(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        store.submit("tiny", [ONE])
    assert len(list((tmp_path / "tiny").iterdir())) == 1
    assert store.ratings("tiny") == []
    assert not store.submit("tiny", [ONE]).repeated and store.ratings("tiny") == [ONE]


def test_a_full_disk_left_half_a_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store = FolderFeedback(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(EnvironmentLacks, match="disk is full"):
        patch.setattr(os, "fsync", full)
        store.submit("tiny", [ONE])
    assert list((tmp_path / "tiny").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b'{"question": "Why?"}\n', b'{"stars": 5}\n', b"5\n", b"{"])
def test_a_changed_submission_was_believed(tmp_path: Path, content: bytes) -> None:
    store = FolderFeedback(tmp_path)
    path = Path(store.submit("tiny", [ONE]).place)
    assert path.stat().st_mode & 0o222 == 0
    path.chmod(0o600)
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="not what was submitted"):
        store.ratings("tiny")


@pytest.mark.parametrize("line", [b'{"stars": 5}\n', b"5\n", b"{\n"])
def test_a_file_of_somebody_else_s_was_read(tmp_path: Path, line: bytes) -> None:
    from llmops_core.fingerprint import digest_of_bytes

    store = FolderFeedback(tmp_path)
    (tmp_path / "tiny").mkdir()
    named = tmp_path / "tiny" / f"now-{digest_of_bytes(line)}.jsonl"
    named.write_bytes(line)
    with pytest.raises(IntegrityError, match="holds no ratings"):
        store.ratings("tiny")
    named.rename(named.with_name("notes.jsonl"))
    with pytest.raises(IntegrityError, match="is no submission"):
        store.ratings("tiny")


@pytest.mark.parametrize("model", ["../other", "", "a/b", "/etc", "A"])
def test_a_name_led_out_of_the_folder(tmp_path: Path, model: str) -> None:
    store = FolderFeedback(tmp_path / "feedback")
    with pytest.raises(InputError, match="no such model"):
        store.submit(model, [ONE])
    with pytest.raises(InputError, match="no such model"):
        store.ratings(model)
    assert list(tmp_path.iterdir()) == []
