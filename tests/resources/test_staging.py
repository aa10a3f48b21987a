"""Staging: private while it is filled, swept when its publisher is dead, never while it lives."""

import fcntl
import os
from pathlib import Path

import pytest

from resources.storage.staging import publish, staged


def test_a_published_folder_appears_whole_and_nothing_else_stays(tmp_path):
    with staged(tmp_path / "deep") as folder:
        (folder / "a").write_text("1")
        publish(folder, tmp_path / "deep" / "name")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["deep", "deep/name", "deep/name/a"]


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), staged(tmp_path) as folder:
        (folder / "a").write_text("1")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_the_second_to_publish_a_name_is_told(tmp_path):
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "a").write_text("first")
    with staged(tmp_path) as folder, pytest.raises(OSError, match="not empty"):
        publish(folder, tmp_path / "name")
    assert (tmp_path / "name" / "a").read_text() == "first"


def test_a_dead_publishers_folder_is_swept_and_a_living_ones_is_not(tmp_path):
    child = os.fork()
    if child == 0:
        entered = staged(tmp_path)
        (entered.__enter__() / "half").write_text("written")
        os._exit(9)
    os.waitpid(child, 0)
    (dead,) = (path for path in (tmp_path / ".incoming").iterdir() if path.is_dir())
    with staged(tmp_path) as living:
        assert not dead.exists()
        (living / "half").write_text("written")
        with staged(tmp_path):
            assert (living / "half").exists()
        assert (living / "half").read_text() == "written"
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_sweeper_took_in_between_is_made_anew(tmp_path, monkeypatch):
    lock_file, taken = fcntl.flock, []

    def raced(handle, operation: int) -> None:
        if not taken:
            taken.append(handle.name)
            Path(handle.name).unlink()
        lock_file(handle, operation)

    monkeypatch.setattr(fcntl, "flock", raced)
    with staged(tmp_path) as folder:
        assert folder.with_suffix(".lock").exists()
        assert str(folder.with_suffix(".lock")) != taken[0]


def test_a_folder_that_vanishes_before_the_lock_is_made_again(tmp_path, monkeypatch):
    make, vanished = Path.mkdir, []

    def unlucky(path: Path, *arguments: object, **options: object) -> None:
        make(path, *arguments, **options)
        if path.name == ".incoming" and not vanished:
            vanished.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", unlucky)
    with staged(tmp_path) as folder:
        assert folder.is_dir()
    assert len(vanished) == 1
