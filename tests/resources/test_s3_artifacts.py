"""Artefacts in a bucket: senders that die at any request, connections that break, stores that lack something."""

import itertools
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from llmops_core.manifest import MANIFEST
from resources.storage import s3_folder
from resources.storage.object_store import ChangedMeanwhile, NamedPlace
from resources.storage.s3_artifacts import S3Artifacts
from resources.storage.s3_folder import S3Folder

PART = 5 * 2**20  # the least that the S3 API allows
_numbers = itertools.count()


class Died(BaseException):
    """Stands for SIGKILL: nothing in the code catches it."""


@pytest.fixture
def place(s3_address: str) -> NamedPlace:
    bucket = f"bucket-{next(_numbers)}"
    boto3.client("s3", endpoint_url=s3_address).create_bucket(Bucket=bucket)
    return NamedPlace("config/x.yaml", "platform.artifacts.uri", f"s3://{bucket}/deep/er", s3_address, "us-east-1")


@pytest.fixture
def client(place: NamedPlace) -> Any:
    return place.client()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests of all stores, such as `PutObject`, as they are made; `react` may answer or raise instead."""
    requests: list[str] = []
    plain = NamedPlace.client

    def watched(self: NamedPlace, credentials: bool = True) -> Any:
        made = plain(self, credentials)
        made.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
        made.meta.events.register("before-send.s3", lambda request, **_: react(requests, request))
        return made

    monkeypatch.setattr(NamedPlace, "client", watched)
    return requests


_reactions: list[Callable[[list[str], Any], Any]] = []


def react(requests: list[str], request: Any) -> Any:
    return next((answer for each in _reactions if (answer := each(requests, request)) is not None), None)


@contextmanager
def reacting(reaction: Callable[[list[str], Any], Any]) -> Iterator[None]:
    _reactions.append(reaction)
    try:
        yield
    finally:
        _reactions.remove(reaction)


def make_folder(path: Path, large: bytes = b"") -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "report.json").write_text("{}")
    (path / "sub/model").write_bytes(large or b"weights")
    return path


class Raw:
    """A body as urllib3 gives it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def answer(request: Any, status: int, code: str) -> AWSResponse:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return AWSResponse(request.url, status, {"Content-Type": "application/xml"}, Raw(body))  # type: ignore[arg-type]


def bucket_of(place: NamedPlace) -> str:
    return urlsplit(place.uri).netloc


def stored(place: NamedPlace, client: Any) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket_of(place)).get("Contents", [])]


def test_a_sender_that_died_left_half_an_artefact(place: NamedPlace, sent: list[str], tmp_path: Path) -> None:
    alive = False
    for last in itertools.count(1):
        work = make_folder(tmp_path / f"work{last}", f"{last}".encode())
        store = S3Artifacts(place, tmp_path / f"cache{last}")
        begun = len(sent)

        def die(requests: list[str], _: object, begun: int = begun, last: int = last) -> None:
            if len(requests) - begun >= last:
                raise Died

        try:
            with reacting(die):
                digest, alive = store.publish("weights", work).digest, True
        except Died:
            digest = next(path.name for path in (tmp_path / f"cache{last}/weights").iterdir())
        other = S3Artifacts(place, tmp_path / f"other{last}")
        found = other.get("weights", digest)
        assert found is None or (alive and other.verify("weights", digest) == [])
        assert other.publish("weights", make_folder(tmp_path / f"again{last}", f"{last}".encode())).digest == digest
        assert S3Artifacts(place, tmp_path / f"third{last}").verified("weights", digest).digest == digest
        if alive:
            break
    assert sent[-3:]
    assert last > 4  # list, two files, list, manifest


def test_the_manifest_was_not_sent_last(place: NamedPlace, sent: list[str], tmp_path: Path) -> None:
    keys: list[str] = []
    with reacting(lambda _, request: keys.append(urlsplit(request.url).path) if request.method == "PUT" else None):
        S3Artifacts(place, tmp_path / "cache").publish("weights", make_folder(tmp_path / "work"))
    assert [Path(key).name for key in keys][-1] == MANIFEST
    assert len(keys) == 3


def test_a_large_file_was_sent_again_from_its_beginning(place: NamedPlace, sent: list[str], tmp_path: Path) -> None:
    content = os.urandom(2 * PART + 1000)
    store = S3Artifacts(place, tmp_path / "cache", PART)

    def die(requests: list[str], request: Any) -> None:
        if "partNumber=3" in request.url:
            raise Died

    with reacting(die), pytest.raises(Died):
        store.publish("weights", make_folder(tmp_path / "work", content))
    sent.clear()
    digest = (
        S3Artifacts(place, tmp_path / "other", PART).publish("weights", make_folder(tmp_path / "w2", content)).digest
    )
    assert sent.count("UploadPart") <= 1
    assert sent.count("CreateMultipartUpload") == 0
    assert sent.count("PutObject") == 1  # the manifest: the small file was there
    assert S3Artifacts(place, tmp_path / "third", PART).verify("weights", digest) == []


def test_a_large_file_was_sent_again_though_it_was_there(place: NamedPlace, sent: list[str], tmp_path: Path) -> None:
    content = os.urandom(PART + 1)
    for number in range(2):
        work = make_folder(tmp_path / f"work{number}", content)
        S3Artifacts(place, tmp_path / f"cache{number}", PART).publish("weights", work)
    assert sent.count("CreateMultipartUpload") == 1
    assert sent.count("GetObject") == 1  # the manifest


def test_a_sender_failed_when_another_ended_the_upload(
    place: NamedPlace, client: Any, sent: list[str], tmp_path: Path, no_pauses: None
) -> None:
    content = os.urandom(PART + 1)
    ended: list[str] = []

    def end(_: object, request: Any) -> AWSResponse | None:
        if "partNumber=2" in request.url and not ended:
            bucket = bucket_of(place)
            (upload,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            ended.append(upload["UploadId"])
        of_ended = any(upload in request.url for upload in ended)
        return answer(request, 404, "NoSuchUpload") if of_ended else None  # moto would fail with 500

    with reacting(end):
        digest = (
            S3Artifacts(place, tmp_path / "cache", PART).publish("weights", make_folder(tmp_path / "w", content)).digest
        )
    assert ended
    assert S3Artifacts(place, tmp_path / "other", PART).verify("weights", digest) == []


def test_parts_of_other_bytes_were_put_together(place: NamedPlace, client: Any, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(os.urandom(PART + 10))
    folder, bucket = S3Folder(place, PART), bucket_of(place)
    upload = client.create_multipart_upload(Bucket=bucket, Key="deep/er/x/model")["UploadId"]
    client.upload_part(Bucket=bucket, Key="deep/er/x/model", UploadId=upload, PartNumber=1, Body=os.urandom(PART))
    folder.send("x/model", file)
    assert folder.content(folder.listed("x")["model"]) == file.read_bytes()


def test_a_store_without_conditions_took_no_artefact(place: NamedPlace, sent: list[str], tmp_path: Path) -> None:
    def refuse(_: object, request: Any) -> AWSResponse | None:
        return answer(request, 501, "NotImplemented") if "If-None-Match" in request.headers else None

    with reacting(refuse):
        digest = S3Artifacts(place, tmp_path / "cache").publish("weights", make_folder(tmp_path / "work")).digest
    assert S3Artifacts(place, tmp_path / "other").verify("weights", digest) == []


@contextmanager
def cutting_proxy(target: str, cuts: int, after_bytes: int) -> Iterator[str]:
    """An address that leads to the server, but breaks off its first `cuts` long answers after so many bytes."""
    parsed = urlsplit(target)
    listener = socket.create_server(("127.0.0.1", 0))
    left = [cuts]

    def forward(near: socket.socket) -> None:
        with near, socket.create_connection((parsed.hostname, parsed.port)) as far:  # type: ignore[arg-type]
            threading.Thread(target=pump, args=(near, far), daemon=True).start()
            seen = 0
            while chunk := far.recv(65536):
                seen += len(chunk)
                if seen > after_bytes and left[0] > 0:
                    left[0] -= 1
                    far.shutdown(socket.SHUT_RDWR)
                    near.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(chunk)

    def pump(near: socket.socket, far: socket.socket) -> None:
        try:
            while chunk := near.recv(65536):
                far.sendall(chunk)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=forward, args=(near,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def test_a_broken_connection_lost_or_repeated_bytes(
    place: NamedPlace, sent: list[str], tmp_path: Path, no_pauses: None
) -> None:
    content = os.urandom(8_000_000)
    digest = S3Artifacts(place, tmp_path / "cache").publish("weights", make_folder(tmp_path / "w", content)).digest
    with cutting_proxy(str(place.endpoint), cuts=3, after_bytes=3_000_000) as address:
        through = NamedPlace(place.file, place.field, place.uri, address, place.region)
        artifact = S3Artifacts(through, tmp_path / "other").verified("weights", digest)
    assert (artifact.path / "sub/model").read_bytes() == content


def test_a_listing_that_broke_off_passed_for_an_empty_folder(
    place: NamedPlace, tmp_path: Path, no_pauses: None
) -> None:
    digest = S3Artifacts(place, tmp_path / "cache").publish("weights", make_folder(tmp_path / "work")).digest
    with cutting_proxy(str(place.endpoint), cuts=10**6, after_bytes=500) as address:
        through = NamedPlace(place.file, place.field, place.uri, address, place.region)
        with pytest.raises(TransientError):
            S3Artifacts(through, tmp_path / "other").get("weights", digest)


def test_an_object_exchanged_while_it_is_read_was_mixed_with_another(
    place: NamedPlace, client: Any, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * 3_000_000)
    folder = S3Folder(place)
    folder.send("x/file", file)
    listed = folder.listed("x")["file"]
    client.put_object(Bucket=bucket_of(place), Key=listed.key, Body=b"b" * 3_000_000)
    with pytest.raises(ChangedMeanwhile):
        folder.content(listed)


@pytest.mark.parametrize("spoil", ["change", "cut", "remove file", "remove manifest", "change manifest"])
def test_a_spoiled_copy_was_read(place: NamedPlace, tmp_path: Path, spoil: str) -> None:
    store = S3Artifacts(place, tmp_path / "cache")
    made = store.publish("weights", make_folder(tmp_path / "work"))
    file = made.path / (MANIFEST if "manifest" in spoil else "sub/model")
    file.chmod(0o644)
    if "remove" in spoil:
        file.unlink()
    else:
        file.write_bytes(b"WEIGHTS" if spoil == "change" else b"w")
    assert any("the copy in" in sentence for sentence in store.verify("weights", made.digest))
    assert (store.verified("weights", made.digest).path / "sub/model").read_bytes() == b"weights"
    assert store.verify("weights", made.digest) == []


def test_what_lies_only_in_a_cache_passed_for_published(place: NamedPlace, client: Any, tmp_path: Path) -> None:
    store = S3Artifacts(place, tmp_path / "cache")
    made = store.publish("weights", make_folder(tmp_path / "work"))
    for key in stored(place, client):
        client.delete_object(Bucket=bucket_of(place), Key=key)
    assert store.get("weights", made.digest) is None
    assert store.publish("weights", make_folder(tmp_path / "again")).digest == made.digest
    assert S3Artifacts(place, tmp_path / "other").verify("weights", made.digest) == []


def test_a_stranger_among_unfinished_files_became_part_of_the_artefact(
    place: NamedPlace, client: Any, tmp_path: Path
) -> None:
    store = S3Artifacts(place, tmp_path / "cache")
    digest = store.publish("weights", make_folder(tmp_path / "work")).digest
    client.delete_object(Bucket=bucket_of(place), Key=f"deep/er/weights/{digest}/{MANIFEST}")
    client.put_object(Bucket=bucket_of(place), Key=f"deep/er/weights/{digest}/planted.py", Body=b"import os")
    with pytest.raises(Exception, match=r"planted\.py was added"):
        store.publish("weights", make_folder(tmp_path / "again"))
    assert store.get("weights", digest) is None


def test_a_missing_bucket_passed_for_a_missing_artefact(place: NamedPlace, tmp_path: Path, no_pauses: None) -> None:
    nowhere = NamedPlace(place.file, place.field, "s3://no-such-bucket/x", place.endpoint, place.region)
    store = S3Artifacts(nowhere, tmp_path / "cache")
    for act in (store.get, store.verify):
        with pytest.raises(InputError, match=r"platform\.artifacts\.uri.*NoSuchBucket"):
            act("weights", "0" * 64)


def test_a_store_that_is_down_was_no_error_to_retry(place: NamedPlace, tmp_path: Path, no_pauses: None) -> None:
    down = NamedPlace(place.file, place.field, place.uri, "http://127.0.0.1:9", place.region)
    with pytest.raises(TransientError, match="could not be reached"):
        S3Artifacts(down, tmp_path / "cache").publish("weights", make_folder(tmp_path / "work"))


def test_a_disk_too_small_for_the_artefact_was_filled(
    place: NamedPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = S3Artifacts(place, tmp_path / "cache").publish("weights", make_folder(tmp_path / "work")).digest
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    store = S3Artifacts(place, tmp_path / "other")
    with pytest.raises(EnvironmentLacks, match="free some space"):
        store.get("weights", digest)
    assert not (tmp_path / "other/weights").exists()


def test_a_file_of_many_parts_went_beyond_what_stores_take() -> None:
    folder = S3Folder(NamedPlace("x", "y", "s3://bucket/prefix"))
    for size in (s3_folder.PART_BYTES + 1, 640 * 10**9 + 1, 5 * 2**40):
        parts = folder._parts(size)
        assert len(parts) <= s3_folder.MOST_PARTS
        assert sum(length for _, length in parts) == size
