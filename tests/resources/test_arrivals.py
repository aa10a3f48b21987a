"""Places where files arrive, a folder and a real S3 server: what is read is exactly what was listed."""

import os
from pathlib import Path
from typing import Any

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from resources.data import arrivals
from resources.data.arrivals import BucketPlace, FolderPlace
from resources.storage.object_store import NamedPlace


@pytest.fixture
def folder(tmp_path: Path) -> FolderPlace:
    (tmp_path / "a.jsonl").write_text("one\n")
    return FolderPlace(tmp_path)


def test_a_file_was_not_listed_or_not_read(folder: FolderPlace) -> None:
    ((name, version),) = folder.listed().items()
    assert name == "a.jsonl" and folder.read(name, version) == b"one\n"


def test_links_and_folders_were_listed(folder: FolderPlace) -> None:
    (folder.folder / "deep").mkdir()
    (folder.folder / "link.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(folder.folder / "pipe.jsonl")
    assert list(folder.listed()) == ["a.jsonl"]


@pytest.mark.parametrize("change", ["append", "same size and time", "replace", "remove", "link", "pipe"])
def test_a_file_that_changed_since_it_was_listed_was_read(folder: FolderPlace, change: str) -> None:
    version, path = folder.listed()["a.jsonl"], folder.folder / "a.jsonl"
    before = path.stat()
    if change == "append":
        path.write_text("one\ntwo\n")
    elif change == "same size and time":
        path.write_text("two\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        path.unlink()
    if change == "replace":
        path.write_text("one\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "link":
        path.symlink_to("/etc/passwd")
    elif change == "pipe":
        os.mkfifo(path)
    assert folder.read("a.jsonl", version) is None


def test_a_file_that_grows_while_it_is_read_was_taken(folder: FolderPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    version, real = folder.listed()["a.jsonl"], os.fdopen

    def grown(*given: Any, **named: Any) -> Any:
        stream = real(*given, **named)

        class Growing:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def fileno(self) -> int:
                return stream.fileno()

            def read(self) -> bytes:
                content = stream.read()
                with (folder.folder / "a.jsonl").open("a") as writer:
                    writer.write("two\n")
                return content

        return Growing()

    monkeypatch.setattr(os, "fdopen", grown)
    assert folder.read("a.jsonl", version) is None


def test_a_folder_that_is_not_mounted_was_empty(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="make or mount it"):
        FolderPlace(tmp_path / "nowhere").listed()


def test_a_file_without_end_filled_the_memory(folder: FolderPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "LIMIT_BYTES", 3)
    with pytest.raises(InputError, match="too large"):
        folder.read("a.jsonl", folder.listed()["a.jsonl"])


@pytest.fixture
def bucket(s3_address: str, no_pauses: None) -> BucketPlace:
    place = BucketPlace(NamedPlace("config", "arrivals x: place", "s3://annotations/atlas", s3_address, "us-east-1"))
    client = place.place.client()
    client.create_bucket(Bucket="annotations")
    keys = {"atlas/a.jsonl": b"one\n", "atlas/deep/b.jsonl": b"x", "atlas10/c.jsonl": b"x", "atlas/": b""}
    for key, content in keys.items():
        client.put_object(Bucket="annotations", Key=key, Body=content)
    return place


def test_an_object_was_not_listed_or_not_read(bucket: BucketPlace) -> None:
    ((name, version),) = bucket.listed().items()
    assert name == "a.jsonl" and bucket.read(name, version) == b"one\n"


def test_an_object_that_changed_or_went_since_it_was_listed_was_read(bucket: BucketPlace) -> None:
    version, client = bucket.listed()["a.jsonl"], bucket.place.client()
    client.put_object(Bucket="annotations", Key="atlas/a.jsonl", Body=b"two\n")
    assert bucket.read("a.jsonl", version) is None
    client.delete_object(Bucket="annotations", Key="atlas/a.jsonl")
    assert bucket.read("a.jsonl", version) is None


def test_an_upload_that_is_not_complete_was_listed(bucket: BucketPlace) -> None:
    client = bucket.place.client()
    begun = client.create_multipart_upload(Bucket="annotations", Key="atlas/half.jsonl")
    client.upload_part(
        Bucket="annotations", Key="atlas/half.jsonl", PartNumber=1, UploadId=begun["UploadId"], Body=b"half"
    )
    assert list(bucket.listed()) == ["a.jsonl"]


def test_an_object_without_end_filled_the_memory(bucket: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "LIMIT_BYTES", 3)
    with pytest.raises(InputError, match="too large"):
        bucket.read("a.jsonl", bucket.listed()["a.jsonl"])


def test_a_store_that_is_down_or_lacks_the_bucket_was_empty(bucket: BucketPlace, s3_address: str) -> None:
    down = BucketPlace(NamedPlace("config", "arrivals x: place", "s3://annotations", "http://127.0.0.1:9", "us-east-1"))
    with pytest.raises(TransientError, match="could not be reached"):
        down.listed()
    other = BucketPlace(NamedPlace("config", "arrivals x: place", "s3://missing", s3_address, "us-east-1"))
    with pytest.raises(InputError, match="arrivals x: place: it is not there"):
        other.listed()
