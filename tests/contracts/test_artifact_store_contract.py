"""What every store of artefacts keeps: a folder, a bucket of a simulated S3 server, a bucket of a real one."""

import itertools
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_core.errors import InputError, IntegrityError
from llmops_core.manifest import MANIFEST
from resources.storage.artifact_store import ArtifactStore, FolderArtifacts
from resources.storage.object_store import NamedPlace
from resources.storage.s3_artifacts import S3Artifacts
from tests.fakes.s3_servers import CREDENTIALS, ceph_is_installed, ceph_server, moto_server

NO_DIGEST = "0" * 64
BUCKET = "artefacts"
_numbers = itertools.count()


class Place(ABC):
    """Where artefacts lie. `machine` opens it as one more machine would, with nothing of it yet."""

    @abstractmethod
    def machine(self) -> ArtifactStore: ...

    @abstractmethod
    def put(self, path: str, content: bytes | None) -> None:
        """Somebody changes `<kind>/<digest>/<file>` behind the store's back, or removes it."""

    @abstractmethod
    def names(self) -> list[str]: ...


class Folder(Place):
    def __init__(self, root: Path) -> None:
        self.root = root / "artifacts"

    def machine(self) -> ArtifactStore:
        return FolderArtifacts(self.root)

    def put(self, path: str, content: bytes | None) -> None:
        file = self.root / path
        if content is None:
            return file.unlink()
        if file.exists():
            file.chmod(0o644)
        file.write_bytes(content)

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


class Bucket(Place):
    def __init__(self, client: Any, endpoint: str, root: Path) -> None:
        self.client, self.root = client, root
        self.prefix = f"runs/{next(_numbers)}"
        self.named = NamedPlace("config/local.yaml", "platform.artifacts.uri", f"s3://{BUCKET}/{self.prefix}", endpoint)

    def machine(self) -> ArtifactStore:
        return S3Artifacts(self.named, self.root / f"cache{next(_numbers)}")

    def put(self, path: str, content: bytes | None) -> None:
        named = {"Bucket": BUCKET, "Key": f"{self.prefix}/{path}"}
        if content is None:
            self.client.delete_object(**named)
        else:
            self.client.put_object(**named, Body=content)

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/").get("Contents", [])
        return sorted(entry["Key"].removeprefix(f"{self.prefix}/") for entry in found)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "folder":
        yield ""
    elif request.param == "moto":
        with moto_server() as address:
            yield address
    elif not ceph_is_installed():
        pytest.skip("no real S3 server here: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd")
    else:
        with tempfile.TemporaryDirectory(prefix="ceph-") as folder, ceph_server(Path(folder)) as address:
            yield address


# Ceph takes ten seconds to start
STORES = ["folder", "moto", pytest.param("ceph", marks=pytest.mark.slow)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("server", STORES, indirect=True, scope="module")


@pytest.fixture
def place(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if not server:
        return Folder(tmp_path)
    import boto3

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket=BUCKET)
    return Bucket(client, server, tmp_path)


def make_folder(path: Path) -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "report.json").write_text("{}")
    (path / "sub/model.safetensors").write_bytes(bytes(range(256)) * 100)
    (path / "empty").write_bytes(b"")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "work")


def test_what_one_machine_published_another_did_not_get(place: Place, folder: Path) -> None:
    store = place.machine()
    made = store.publish("weights", folder)
    assert store.get("weights", made.digest) == made
    for other in (store, place.machine()):
        artifact = other.get("weights", made.digest)
        assert artifact is not None and artifact.manifest == made.manifest
        assert [entry.path for entry in artifact.manifest.files] == ["empty", "report.json", "sub/model.safetensors"]
        assert (artifact.path / "sub/model.safetensors").read_bytes() == bytes(range(256)) * 100
        assert (artifact.path / "empty").read_bytes() == b""
        assert {p.stat().st_mode & 0o777 for p in artifact.path.rglob("*") if p.is_file()} == {0o444}
        assert other.verified("weights", made.digest) == artifact
        assert other.verify("weights", made.digest) == []


def test_same_content_was_not_one_artefact_wherever_it_came_from(place: Place, folder: Path, tmp_path: Path) -> None:
    store = place.machine()
    first = store.publish("weights", folder)
    names = place.names()
    assert len(names) == 4
    assert store.publish("weights", folder) == first
    assert place.machine().publish("weights", make_folder(tmp_path / "other")).digest == first.digest
    assert place.names() == names
    assert store.publish("base_weights", make_folder(tmp_path / "third")).digest != first.digest


def test_what_was_published_was_not_listed_or_something_else_was(place: Place, folder: Path, tmp_path: Path) -> None:
    store = place.machine()
    assert store.listed() == []
    first = store.publish("weights", folder).digest
    second = store.publish("dataset", make_folder(tmp_path / "other")).digest
    place.put(f"weights/{first}/sub/{MANIFEST}", b"{}")
    assert place.machine().listed() == [("dataset", second), ("weights", first)]
    place.put(f"dataset/{second}/{MANIFEST}", None)
    assert store.listed() == [("weights", first)]


def test_what_was_never_published_was_found(place: Place) -> None:
    store = place.machine()
    assert store.get("weights", NO_DIGEST) is None
    assert store.verify("weights", NO_DIGEST) == [f"weights {NO_DIGEST} is missing"]
    with pytest.raises(IntegrityError, match=r"missing|gone"):
        store.verified("weights", NO_DIGEST)


@pytest.mark.parametrize(("kind", "digest"), [("../x", NO_DIGEST), ("weights", "../../etc"), ("weights", "A" * 64)])
def test_a_name_left_the_store(place: Place, kind: str, digest: str) -> None:
    for act in (place.machine().get, place.machine().verify, place.machine().verified):
        with pytest.raises(InputError):
            act(kind, digest)


def test_a_changed_missing_or_added_file_was_not_named(place: Place, folder: Path) -> None:
    store = place.machine()
    digest = store.publish("weights", folder).digest
    content = bytearray((folder / "sub/model.safetensors").read_bytes())
    content[777] ^= 1
    place.put(f"weights/{digest}/sub/model.safetensors", bytes(content))
    place.put(f"weights/{digest}/report.json", None)
    place.put(f"weights/{digest}/planted.py", b"import os")
    for machine in (store, place.machine()):
        found = machine.verify("weights", digest)
        assert sorted(sentence.partition(":")[0] for sentence in found) == [
            "planted.py was added",
            "report.json is missing",
            "sub/model.safetensors was changed",
        ]
        with pytest.raises(IntegrityError):
            machine.verified("weights", digest)


def test_one_changed_byte_reached_a_reader(place: Place, folder: Path) -> None:
    digest = place.machine().publish("weights", folder).digest
    place.put(f"weights/{digest}/report.json", b"[]")
    with pytest.raises(IntegrityError, match=r"report\.json was changed"):
        place.machine().verified("weights", digest)


def test_a_changed_manifest_was_believed(place: Place, folder: Path) -> None:
    made = place.machine().publish("weights", folder)
    place.put(f"weights/{made.digest}/{MANIFEST}", made.manifest.content().replace(b"report", b"repaid"))
    assert "was changed" in place.machine().verify("weights", made.digest)[0]
    with pytest.raises(IntegrityError, match="was changed"):
        place.machine().get("weights", made.digest)


def test_files_without_their_manifest_passed_for_an_artefact(place: Place, folder: Path) -> None:
    digest = place.machine().publish("weights", folder).digest
    place.put(f"weights/{digest}/{MANIFEST}", None)
    (sentence,) = place.machine().verify("weights", digest)
    assert sentence.endswith("is missing")
    with pytest.raises(IntegrityError):
        place.machine().verified("weights", digest)


def test_a_damaged_artefact_was_published_over_in_silence(place: Place, folder: Path, tmp_path: Path) -> None:
    digest = place.machine().publish("weights", folder).digest
    place.put(f"weights/{digest}/report.json", b"[]")
    with pytest.raises(IntegrityError, match=r"report\.json was changed"):
        place.machine().publish("weights", make_folder(tmp_path / "again"))


def test_a_link_pipe_or_odd_name_was_published(place: Place, folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder-link").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    (folder / "new\nline").write_text("")
    with pytest.raises(InputError) as error:
        place.machine().publish("weights", folder)
    fields = sorted(problem.field for problem in error.value.problems)
    assert fields == ["'folder-link'", "'link'", "'new\\nline'", "'pipe'"]
    assert place.names() == []


def test_nothing_was_published(place: Place, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "missing"):
        with pytest.raises(InputError, match="nothing to publish"):
            place.machine().publish("weights", path)


def test_a_file_took_the_manifests_name(place: Place, folder: Path) -> None:
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match="the name is the manifest's"):
        place.machine().publish("weights", folder)


def test_names_that_stores_encode_were_changed_on_the_way(place: Place, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    for name in ("a b+c%20&d=é.txt", "#?.json", "~'(x)"):
        (tmp_path / "odd" / name).write_text(name)
    digest = place.machine().publish("weights", tmp_path / "odd").digest
    artifact = place.machine().verified("weights", digest)
    assert {p.name: p.read_text() for p in artifact.path.iterdir() if p.name != MANIFEST} == {
        entry.path: entry.path for entry in artifact.manifest.files
    }


def test_many_publishers_of_one_artefact_disagreed(place: Place, tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / f"work{number}") for number in range(6)]
    digests: list[str] = []
    errors: list[Exception] = []

    def publish(store: ArtifactStore, folder: Path) -> None:
        try:
            digests.append(store.publish("weights", folder).digest)
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    shared = place.machine()
    stores = [shared, shared, shared, *(place.machine() for _ in range(3))]
    threads = [threading.Thread(target=publish, args=pair) for pair in zip(stores, folders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(digests) == 6
    assert len(set(digests)) == 1
    assert place.machine().verify("weights", digests[0]) == []
