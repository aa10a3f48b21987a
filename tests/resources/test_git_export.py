"""Exports of a commit: whole, checked, and never a way out of the folder for a hostile tree."""

import os
import shutil
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError
from resources.git.source import GitSource
from resources.storage import staging


def test_export_writes_the_commit_with_executable_bits_and_inner_links(repository, tmp_path):
    repository.write({"run.sh": "echo", "sub/a.txt": "1"})
    (repository.path / "run.sh").chmod(0o755)
    (repository.path / "sub/link").symlink_to("../run.sh")
    revision = repository.commit()
    repository.write({"sub/a.txt": "changed later", "untracked": "x"})
    target = tmp_path / "deep/export"
    GitSource(repository.path).export(revision, target)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*")) == ["run.sh", "sub", "sub/a.txt", "sub/link"]
    assert (target / "sub/a.txt").read_text() == "1"
    assert os.access(target / "run.sh", os.X_OK)
    assert (target / "sub/a.txt").stat().st_mode & 0o111 == 0
    assert (target / "sub/link").read_text() == "echo"
    assert [p.name for p in target.parent.iterdir()] == ["export"]


def test_export_again_checks_what_is_there(repository, tmp_path):
    revision = repository.commit({"a": "1", "b/c": "2"})
    source, target = GitSource(repository.path), tmp_path / "export"
    source.export(revision, target)
    (target / "b/__pycache__").mkdir()
    (target / "b/__pycache__/c.pyc").write_bytes(b"byte code")
    source.export(revision, target)
    (target / "b/c").write_text("tampered")
    (target / "extra").write_text("planted")
    (target / "a").unlink()
    with pytest.raises(IntegrityError, match="a, b/c, extra"):
        source.export(revision, target)


LINK, PLAIN = "120000", "100644"


@pytest.mark.parametrize(
    "entries",
    [
        [(LINK, "x", b"/etc/passwd")],
        [(LINK, "x", b"../outside")],
        [(LINK, "x", b"y"), (LINK, "y", b"..")],
        [(LINK, "x", b"x")],
    ],
)
def test_links_that_leave_the_tree_are_refused_and_nothing_is_left(repository, tmp_path, entries):
    revision = repository.commit_tree(entries)
    with pytest.raises(InputError, match="inside the tree"):
        GitSource(repository.path).export(revision, tmp_path / "out/export")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "entries",
    [[(PLAIN, "a", b"1"), (PLAIN, "a", b"2")], [(PLAIN, "back\\slash", b"1")], [(PLAIN, "\x1b[2J", b"1")]],
)
def test_names_that_cannot_stand_in_one_folder_are_refused(repository, tmp_path, entries):
    revision = repository.commit_tree(entries)
    with pytest.raises(InputError, match="rename the file"):
        GitSource(repository.path).export(revision, tmp_path / "export")


@pytest.mark.parametrize("name", ["..", ".git", "../../escaped", "."])
def test_trees_with_names_git_would_never_write_are_refused(repository, tmp_path, name):
    revision = repository.commit_tree([(PLAIN, name, b"x")])
    with pytest.raises(IntegrityError):
        GitSource(repository.path).export(revision, tmp_path / "out/export")
    assert not (tmp_path / "escaped").exists()


def test_a_file_cannot_be_written_through_a_link_of_the_same_name(repository, tmp_path):
    revision = repository.commit_tree([(LINK, "x", b"../stolen"), (PLAIN, "x", b"payload")])
    with pytest.raises(InputError, match="named twice"):
        GitSource(repository.path).export(revision, tmp_path / "out/export")
    assert not (tmp_path / "out").exists()


def test_submodules_are_refused_in_words(repository, tmp_path):
    revision = repository.commit_tree([("160000", "vendored", b"1" * 40)])
    with pytest.raises(InputError, match="submodules are not followed"):
        GitSource(repository.path).export(revision, tmp_path / "export")
    assert GitSource(repository.path).blobs(revision) == {}


def test_export_on_a_full_disk_says_so_and_leaves_nothing(repository, tmp_path, monkeypatch):
    revision = repository.commit({"a": "1"})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(EnvironmentLacks, match="no space left"):
        GitSource(repository.path).export(revision, tmp_path / "out/export")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_slower_of_two_exporters_takes_the_others_copy(repository, tmp_path, monkeypatch):
    revision = repository.commit({"a": "1"})
    source, target = GitSource(repository.path), tmp_path / "out/export"
    monkeypatch.setattr(staging, "sync_folder", lambda partial: target.exists() or shutil.copytree(partial, target))
    source.export(revision, target)
    assert [path.name for path in target.parent.iterdir()] == ["export"]


def test_an_error_that_is_no_full_disk_is_not_called_one(repository, tmp_path, monkeypatch):
    revision = repository.commit({"a": "1"})

    def denied(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(staging, "sync_folder", denied)
    with pytest.raises(PermissionError):
        GitSource(repository.path).export(revision, tmp_path / "out/export")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_that_was_pointed_elsewhere_is_found(repository, tmp_path):
    (repository.path / "link").symlink_to("a")
    revision = repository.commit({"a": "1", "b": "2"})
    source, target = GitSource(repository.path), tmp_path / "export"
    source.export(revision, target)
    source.export(revision, target)
    (target / "link").unlink()
    (target / "link").symlink_to("b")
    with pytest.raises(IntegrityError, match="link differ"):
        source.export(revision, target)
