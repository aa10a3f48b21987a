"""Data by revision: the bytes that were committed, from cache or remote, or a sentence saying what to do."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, TransientError
from resources.data.dataset_store import DvcStore
from resources.data.dvc_remotes import without_passwords
from resources.git.source import GitSource

TRAIN = b'{"prompt": "a", "response": "b"}\n'


def store_of(repository) -> DvcStore:
    return DvcStore(repository.path, GitSource(repository.path))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "data"


def test_everything_tracked_is_found_with_wdir_taken_into_account(dvc_repository):
    tracked = store_of(dvc_repository).tracked("HEAD")
    assert list(tracked) == ["built", "data/atlas", "sub/copy.txt", "sub/score.txt", "weights.bin"]
    atlas = tracked["data/atlas"]
    assert atlas.is_dir
    assert (atlas.nfiles, atlas.size_bytes, atlas.declared_in) == (2, 66, "data/atlas.dvc")
    assert tracked["weights.bin"].md5 == hashlib.md5(b"\0\1").hexdigest()


def test_pointers_come_from_the_revision_and_not_from_the_working_tree(dvc_repository, target):
    first = dvc_repository.git("rev-parse", "HEAD")
    dvc_repository.write({"data/atlas/train.jsonl": "new"})
    dvc_repository.dvc("add", "--quiet", "data/atlas")
    store = store_of(dvc_repository)
    uncommitted = store.pointer("HEAD", "data/atlas")
    second = dvc_repository.commit()
    assert uncommitted == store.pointer(first, "data/atlas") != store.pointer(second, "data/atlas")
    assert store.pointer("HEAD", "data/atlas") == store.pointer(second, "data/atlas")
    store.fetch(first, "data/atlas", target)
    assert (target / "train.jsonl").read_bytes() == TRAIN


def test_fetch_copies_from_the_cache_without_dvc(dvc_repository, target, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)
    fetched = store_of(dvc_repository).fetch("HEAD", "data/atlas/", target)
    assert names(target) == ["deep/test.jsonl", "train.jsonl"]
    entry = next(entry for entry in fetched.files if entry.path == "train.jsonl")
    assert (entry.sha256, entry.size_bytes) == (hashlib.sha256(TRAIN).hexdigest(), len(TRAIN))
    assert fetched.pointer.path == "data/atlas"
    assert [path.name for path in target.parent.iterdir()] == ["data"]
    overwrite(target / "train.jsonl", b"changed in the copy")
    assert dvc_repository.object(hashlib.md5(TRAIN).hexdigest()).read_bytes() == TRAIN


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("weights.bin", ["weights.bin"]),
        ("data/atlas/deep", ["test.jsonl"]),
        ("data/atlas/deep/test.jsonl", ["test.jsonl"]),
        ("built", ["train.jsonl"]),
        ("sub/copy.txt", ["copy.txt"]),
    ],
)
def test_a_path_may_be_a_file_or_lie_inside_an_output(dvc_repository, target, path, expected):
    store_of(dvc_repository).fetch("HEAD", path, target)
    assert names(target) == expected


def test_a_listing_needs_no_bytes_so_that_a_fingerprint_can_tell_files_apart(dvc_repository):
    store = store_of(dvc_repository)
    dvc_repository.object(hashlib.md5(TRAIN).hexdigest()).unlink()
    listed = {file.path: file.md5 for file in store.listed("HEAD", "data/atlas")}
    assert listed.keys() == {"train.jsonl", "deep/test.jsonl"}
    assert listed["train.jsonl"] == hashlib.md5(TRAIN).hexdigest()
    assert [file.path for file in store.listed("HEAD", "weights.bin")] == ["weights.bin"]


def test_fetching_again_checks_what_is_there(dvc_repository, target):
    store = store_of(dvc_repository)
    first = store.fetch("HEAD", "data/atlas", target)
    assert store.fetch("HEAD", "data/atlas", target) == first
    (target / "train.jsonl").write_bytes(b"tampered")
    (target / "deep/test.jsonl").unlink()
    (target / "extra").write_bytes(b"planted")
    with pytest.raises(IntegrityError, match=r"deep/test\.jsonl, extra, train\.jsonl differ"):
        store.fetch("HEAD", "data/atlas", target)


@pytest.mark.parametrize("path", ["data", "data/atlas2", "models", "weights.bin/x", "train.jsonl"])
def test_a_path_that_is_not_tracked_says_what_is(dvc_repository, target, path):
    with pytest.raises(InputError, match=r"is no DVC output at revision HEAD: add it with `dvc add`") as error:
        store_of(dvc_repository).fetch("HEAD", path, target)
    assert "data/atlas" in error.value.problems[0].expected


def test_a_path_that_a_tracked_folder_does_not_hold(dvc_repository, target):
    with pytest.raises(InputError, match=r"data/atlas holds no such file"):
        store_of(dvc_repository).fetch("HEAD", "data/atlas/dev.jsonl", target)


@pytest.mark.parametrize("path", ["../secret", "/etc", ""])
def test_a_path_that_leaves_the_repository(dvc_repository, target, path):
    with pytest.raises(InputError, match="inside the repository"):
        store_of(dvc_repository).fetch("HEAD", path, target)


def test_one_broken_pointer_file_stops_its_own_data_only(dvc_repository, target):
    dvc_repository.commit({"other.dvc": "outs: [{path: ../../etc, hash: md5, md5: x}]", "bad.dvc": "a: &a [*a]"})
    store = store_of(dvc_repository)
    store.fetch("HEAD", "data/atlas", target)
    assert {problem.file for problem in store.survey("HEAD").problems} == {"other.dvc", "bad.dvc"}
    with pytest.raises(InputError, match=r"bad\.dvc"):
        store.pointer("HEAD", "other")


def test_two_files_that_claim_one_output_are_named(dvc_repository):
    dvc_repository.commit({"sub/again.dvc": f"outs: [{{path: ../weights.bin, hash: md5, md5: {'0' * 32}}}]"})
    survey = store_of(dvc_repository).survey("HEAD")
    assert [(problem.file, problem.field) for problem in survey.problems] == [("weights.bin.dvc", "weights.bin")]


def test_what_the_cache_lacks_comes_from_the_remote(dvc_repository, target):
    shutil.rmtree(dvc_repository.path / ".dvc/cache")
    fetched = store_of(dvc_repository).fetch("HEAD", "data/atlas", target)
    assert names(target) == ["deep/test.jsonl", "train.jsonl"]
    assert len(fetched.files) == 2


def test_the_remote_may_be_an_object_store(dvc_repository, target, s3_address):
    import boto3

    boto3.client("s3", endpoint_url=s3_address).create_bucket(Bucket="data-versions")
    dvc_repository.dvc("remote", "modify", "store", "url", "s3://data-versions/team")
    dvc_repository.dvc("remote", "modify", "store", "endpointurl", s3_address)
    dvc_repository.dvc("push", "--quiet", "data/atlas.dvc")
    shutil.rmtree(dvc_repository.path / ".dvc/cache")
    shutil.rmtree(dvc_repository.remote)
    store = store_of(dvc_repository)
    assert len(store.fetch("HEAD", "data/atlas", target).files) == 2
    with pytest.raises(InputError, match="nowhere"):
        store.fetch("HEAD", "weights.bin", target.with_name("other"))


def test_a_cache_that_the_settings_put_elsewhere_is_found(dvc_repository, target, tmp_path):
    (dvc_repository.path / ".dvc/cache").rename(tmp_path / "shared-cache")
    shutil.rmtree(dvc_repository.remote)
    dvc_repository.dvc("cache", "dir", "--local", str(tmp_path / "shared-cache"))
    store_of(dvc_repository).fetch("HEAD", "data/atlas", target)
    assert names(target) == ["deep/test.jsonl", "train.jsonl"]


def test_an_object_that_nobody_has_is_named_with_what_to_do(dvc_repository, target):
    md5 = hashlib.md5(TRAIN).hexdigest()
    dvc_repository.object(md5).unlink()
    (dvc_repository.remote / "files/md5" / md5[:2] / md5[2:]).unlink()
    with pytest.raises(InputError, match=rf"train\.jsonl \(md5 {md5}\) nowhere.*") as error:
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)
    assert "`dvc push`" in str(error.value)
    assert "`dvc repro`" in str(error.value)
    assert not target.parent.exists()


def test_a_remote_that_is_not_configured_is_said(dvc_repository, target):
    dvc_repository.object(hashlib.md5(TRAIN).hexdigest()).unlink()
    dvc_repository.dvc("remote", "remove", "store")
    with pytest.raises(InputError, match="NoRemoteError"):
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)
    shutil.rmtree(dvc_repository.path / ".dvc")
    with pytest.raises(InputError, match="run `dvc init`"):
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)


def test_an_unreachable_remote_is_worth_a_retry_and_its_password_stays_hidden(dvc_repository, target, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    dvc_repository.object(hashlib.md5(TRAIN).hexdigest()).unlink()
    dvc_repository.dvc("remote", "modify", "store", "url", "s3://bucket/x")
    dvc_repository.dvc("remote", "modify", "store", "endpointurl", "http://127.0.0.1:9")
    with pytest.raises(TransientError, match="could not be reached") as error:
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)
    assert "s3cr3t" not in str(error.value)


def test_a_damaged_cache_object_is_named_and_nothing_is_left(dvc_repository, target):
    damaged = dvc_repository.object(hashlib.md5(TRAIN).hexdigest())
    overwrite(damaged, TRAIN.replace(b"b", b"x"))
    with pytest.raises(IntegrityError, match="the cache is damaged") as error:
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)
    assert str(damaged) in str(error.value)
    assert list(target.parent.iterdir()) == []


def test_a_changed_listing_is_found(dvc_repository, target):
    md5 = store_of(dvc_repository).pointer("HEAD", "data/atlas").md5
    overwrite(dvc_repository.object(md5), b"[]")
    with pytest.raises(IntegrityError, match="should have MD5"):
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)


@pytest.mark.parametrize("relpath", ["../escaped", "/etc/x", "a/../../x", "a\\b", ""])
def test_a_listing_cannot_name_files_outside_the_folder(dvc_repository, target, relpath):
    listing = json.dumps([{"md5": hashlib.md5(TRAIN).hexdigest(), "relpath": relpath}]).encode()
    md5 = hashlib.md5(listing).hexdigest() + ".dir"
    place = dvc_repository.object(md5)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(listing)
    dvc_repository.commit({"evil.dvc": f"outs: [{{path: evil, hash: md5, md5: {md5}}}]"})
    with pytest.raises(IntegrityError, match="is refused"):
        store_of(dvc_repository).fetch("HEAD", "evil", target)
    assert not target.parent.exists()


def test_a_full_disk_is_said_before_and_while_writing(dvc_repository, target, monkeypatch):
    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resources.data.dataset_store.sync_file", full)
    with pytest.raises(EnvironmentLacks, match="no space left"):
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)
    assert list(target.parent.iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(EnvironmentLacks, match="needs 66 bytes"):
        store_of(dvc_repository).fetch("HEAD", "data/atlas", target)


def test_passwords_are_cut_out_of_what_programs_say():
    said = without_passwords("cannot open https://ada:hunter2@example.com/x?X-Amz-Signature=abc&token=def&a=b")
    assert said == "cannot open https://example.com/x?X-Amz-Signature=…&token=…&a=b"


def test_objects_that_only_the_remote_has_were_taken_for_lost_or_brought(dvc_repository):
    shutil.rmtree(dvc_repository.path / ".dvc/cache")
    store = store_of(dvc_repository)
    assert store.lacking("HEAD", ["weights.bin", "data/atlas"]) == {}
    assert not dvc_repository.object(hashlib.md5(TRAIN).hexdigest()).exists()


def test_objects_that_nobody_has_were_not_named(dvc_repository):
    shutil.rmtree(dvc_repository.path / ".dvc/cache")
    md5 = hashlib.md5(TRAIN).hexdigest()
    (dvc_repository.remote / "files/md5" / md5[:2] / md5[2:]).unlink()
    (path, why), *others = store_of(dvc_repository).lacking("HEAD", ["weights.bin", "data/atlas"]).items()
    assert (path, others) == ("data/atlas", [])
    assert why == f"data/atlas.dvc names train.jsonl (md5 {md5}), which no remote has: run `dvc push`"


def test_a_listing_that_nobody_has_was_not_named(dvc_repository):
    listing = store_of(dvc_repository).pointer("HEAD", "data/atlas").md5
    dvc_repository.object(listing).unlink()
    (dvc_repository.remote / "files/md5" / listing[:2] / listing[2:]).unlink()
    lost = store_of(dvc_repository).lacking("HEAD", ["data/atlas"])
    assert "dvc push" in lost["data/atlas"] and listing in lost["data/atlas"]


def test_a_remote_that_cannot_be_reached_passed_for_one_without_the_object(dvc_repository, monkeypatch):
    shutil.rmtree(dvc_repository.path / ".dvc/cache")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    dvc_repository.dvc("remote", "modify", "store", "url", "s3://bucket/x")
    dvc_repository.dvc("remote", "modify", "store", "endpointurl", "http://127.0.0.1:9")
    with pytest.raises(TransientError, match="could not be reached"):
        store_of(dvc_repository).lacking("HEAD", ["weights.bin"])


@pytest.mark.parametrize("answer", [404, 503, 0])
def test_a_web_server_that_fails_passed_for_one_without_the_object(dvc_repository, target, answer: int) -> None:
    shutil.rmtree(dvc_repository.path / ".dvc/cache")
    with answering(answer) as url:
        dvc_repository.dvc("remote", "modify", "store", "url", url)
        store = store_of(dvc_repository)
        if answer == 404:
            assert "dvc push" in store.lacking("HEAD", ["weights.bin"])["weights.bin"]
            return
        for ask in (lambda: store.lacking("HEAD", ["weights.bin"]), lambda: store.fetch("HEAD", "weights.bin", target)):
            with pytest.raises(TransientError, match="could not be reached"):
                ask()


@contextmanager
def answering(status: int) -> Iterator[str]:
    """The address of a web server that answers everything with this status; 0: nobody listens there."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 (the name that http.server looks for)

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        url = f"http://127.0.0.1:{server.server_port}/data"
        if not status:
            server.server_close()
            yield url
            return
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()
