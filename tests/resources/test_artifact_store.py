"""Published folders: whole or not there, never changed unseen, whoever dies when. What every store keeps is asked of
this one too, in tests/contracts/test_artifact_store_contract.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, IntegrityError
from llmops_core.manifest import MANIFEST
from resources.storage import artifact_store, staging
from resources.storage.artifact_store import FolderArtifacts

NO_DIGEST = "0" * 64


@pytest.fixture
def store(tmp_path):
    return FolderArtifacts(tmp_path / "artifacts")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "work")


def make_folder(path: Path) -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "report.json").write_text("{}")
    (path / "sub/model.safetensors").write_bytes(bytes(range(256)) * 100)
    (path / "empty").write_bytes(b"")
    return path


def tamper(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_verify_names_every_changed_missing_and_added_file(store, folder):
    artifact = store.publish("weights", folder)
    model = artifact.path / "sub/model.safetensors"
    content = bytearray(model.read_bytes())
    content[777] ^= 1
    tamper(model, bytes(content))
    (artifact.path / "report.json").unlink()
    (artifact.path / "sub/planted.py").write_text("import os")
    (artifact.path / "link").symlink_to("/etc/passwd")
    found = "\n".join(store.verify("weights", artifact.digest))
    for expected in ("model.safetensors was changed", "report.json is missing", "sub/planted.py was added"):
        assert expected in found
    assert "link is no regular file" in found
    assert len(found.splitlines()) == 4


def test_a_changed_or_lost_manifest_is_found(store, folder):
    artifact = store.publish("weights", folder)
    content = (artifact.path / MANIFEST).read_bytes()
    tamper(artifact.path / MANIFEST, content.replace(b"report", b"repaid"))
    assert "was changed" in store.verify("weights", artifact.digest)[0]
    with pytest.raises(IntegrityError, match="was changed"):
        store.get("weights", artifact.digest)
    (artifact.path / MANIFEST).unlink()
    assert store.verify("weights", artifact.digest) == [f"weights {artifact.digest}: {MANIFEST} is missing"]


def test_a_folder_moved_to_another_digest_is_found(store, folder):
    artifact = store.publish("weights", folder)
    artifact.path.rename(artifact.path.with_name(NO_DIGEST))
    assert "was changed" in store.verify("weights", NO_DIGEST)[0]
    (store.root / "weights" / artifact.digest).symlink_to(NO_DIGEST)
    assert store.verify("weights", artifact.digest) == [f"weights {artifact.digest} was replaced by a link"]


def test_a_file_that_has_another_name_is_copied_because_it_could_change_through_that_name(store, folder):
    os.link(folder / "report.json", folder.parent / "other-name")
    artifact = store.publish("weights", folder)
    (folder.parent / "other-name").write_text("changed")
    assert store.verify("weights", artifact.digest) == []


def test_large_files_are_not_copied(store, folder):
    artifact = store.publish("weights", folder)
    assert (artifact.path / "sub/model.safetensors").samefile(folder / "sub/model.safetensors")


def publish_and_die(store: FolderArtifacts, folder: Path, line: int) -> bool:
    """Publish in a child process that dies at the n-th line executed; whether it lived to the end."""
    child = os.fork()
    if child == 0:
        lines = 0

        def trace(frame, event, _argument):
            nonlocal lines
            if frame.f_code.co_filename not in (artifact_store.__file__, staging.__file__):
                return None
            lines += event == "line"
            if lines >= line:
                os._exit(9)
            return trace

        sys.settrace(trace)
        store.publish("weights", folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_killed_at_any_line_it_leaves_nothing_half_done_and_converges(tmp_path):
    line, survived = 0, False
    while not survived:
        line += 4
        store, folder = FolderArtifacts(tmp_path / f"store{line}"), make_folder(tmp_path / f"work{line}")
        survived = publish_and_die(store, folder, line)
        seen = list((store.root / "weights").glob("*")) if (store.root / "weights").exists() else []
        assert [store.verify("weights", place.name) for place in seen] == [[] for _ in seen]
        artifact = store.publish("weights", folder)
        assert store.verify("weights", artifact.digest) == []
        assert not (store.root / ".incoming").exists()
    assert line > 80


def test_a_full_disk_loses_nothing(store, folder, monkeypatch):
    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(artifact_store, "sync_file", full)
        with pytest.raises(EnvironmentLacks, match="free some space"):
            store.publish("weights", folder)
    assert not (store.root / "weights").exists()
    assert not (store.root / ".incoming").exists()
    assert store.verify("weights", store.publish("weights", folder).digest) == []


def test_an_error_that_is_no_full_disk_is_not_called_one(store, folder, monkeypatch):
    def denied(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(artifact_store, "sync_file", denied)
    with pytest.raises(PermissionError):
        store.publish("weights", folder)
    assert not (store.root / ".incoming").exists()


def test_a_disk_without_room_for_another_name_is_full_too(store, folder, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", full)
    with pytest.raises(EnvironmentLacks, match="free some space"):
        store.publish("weights", folder)


def test_a_disk_that_is_really_full(folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        (folder / "big").write_bytes(os.urandom(100_000))
        store = FolderArtifacts(disk / "artifacts")
        with pytest.raises(EnvironmentLacks, match="no space left"):
            store.publish("weights", folder)
        (folder / "big").unlink()
        assert (folder / "report.json").read_text() == "{}"
        assert store.verify("weights", store.publish("weights", folder).digest) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
