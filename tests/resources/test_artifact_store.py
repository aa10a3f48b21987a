"""Published folders: whole or not there, never changed unseen, whoever dies when."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError
from llmops_core.manifest import MANIFEST
from resources import artifact_store, staging
from resources.artifact_store import FolderArtifacts

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


def test_what_was_published_can_be_got_and_verified(store, folder):
    artifact = store.publish("weights", folder)
    assert (artifact.path / "sub/model.safetensors").read_bytes() == bytes(range(256)) * 100
    assert [entry.path for entry in artifact.manifest.files] == ["empty", "report.json", "sub/model.safetensors"]
    assert artifact.path == store.root / "weights" / artifact.digest
    assert store.get("weights", artifact.digest) == artifact
    assert store.verify("weights", artifact.digest) == []
    assert not (store.root / ".incoming").exists()
    assert {p.stat().st_mode & 0o777 for p in artifact.path.rglob("*") if p.is_file()} == {0o444}


def test_same_content_is_one_artefact_wherever_it_came_from(store, folder, tmp_path):
    first = store.publish("weights", folder)
    assert store.publish("weights", folder) == first
    assert store.publish("weights", make_folder(tmp_path / "other")) == first
    assert store.publish("base_weights", make_folder(tmp_path / "third")).digest != first.digest


def test_nothing_is_there_before_it_is_published(store):
    assert store.get("weights", NO_DIGEST) is None
    assert store.verify("weights", NO_DIGEST) == [f"weights {NO_DIGEST} is missing"]


@pytest.mark.parametrize(("kind", "digest"), [("../x", NO_DIGEST), ("weights", "../../etc"), ("weights", "A" * 64)])
def test_names_cannot_leave_the_store(store, kind, digest):
    with pytest.raises(InputError):
        store.get(kind, digest)


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
    for expected in ("sub/model.safetensors was changed", "report.json is missing", "sub/planted.py was added"):
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


def test_publishing_over_a_damaged_artefact_stops_for_a_person(store, folder, tmp_path):
    artifact = store.publish("weights", folder)
    tamper(artifact.path / "report.json", b"{'metrics': 1}")
    with pytest.raises(IntegrityError, match=r"report\.json was changed"):
        store.publish("weights", make_folder(tmp_path / "again"))


def test_a_file_that_has_another_name_is_copied_because_it_could_change_through_that_name(store, folder):
    os.link(folder / "report.json", folder.parent / "other-name")
    artifact = store.publish("weights", folder)
    (folder.parent / "other-name").write_text("changed")
    assert store.verify("weights", artifact.digest) == []


def test_large_files_are_not_copied(store, folder):
    artifact = store.publish("weights", folder)
    assert (artifact.path / "sub/model.safetensors").samefile(folder / "sub/model.safetensors")


def test_links_pipes_and_odd_names_are_refused_each_by_name(store, folder):
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder-link").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    (folder / "new\nline").write_text("")
    with pytest.raises(InputError) as error:
        store.publish("weights", folder)
    fields = sorted(problem.field for problem in error.value.problems)
    assert fields == ["'folder-link'", "'link'", "'new\\nline'", "'pipe'"]
    assert not (store.root / "weights").exists()


def test_there_must_be_something_to_publish(store, tmp_path):
    (tmp_path / "nothing").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "missing"):
        with pytest.raises(InputError, match="nothing to publish"):
            store.publish("weights", path)


def test_a_file_called_like_the_manifest_is_refused(store, folder):
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match="the name is the manifest's"):
        store.publish("weights", folder)


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


def test_many_publishers_of_one_artefact_agree(store, tmp_path):
    folders = [make_folder(tmp_path / f"work{number}") for number in range(8)]
    digests, errors = [], []

    def publish(folder: Path) -> None:
        try:
            digests.append(store.publish("weights", folder).digest)
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(digests) == 8
    assert len(set(digests)) == 1
    assert store.verify("weights", digests[0]) == []


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
