"""A released model's state moved to another home, with a real MLflow on both sides: nothing lost, nothing believed."""

import copy
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_assets.operations.audit import audit
from llmops_assets.operations.moving import export_state, import_state
from llmops_core.errors import InputError, IntegrityError
from llmops_core.ratings import Rating
from llmops_core.registration import SIGNATURE_TAG
from resources.home import Home
from resources.registry.model_registry import RegistrationRequest
from resources.registry.registry import MlflowRegistry
from resources.wiring import Platform
from tests.fakes.git_with_data import ANSWERS
from tests.fakes.http_gateway import AnsweringGateway
from tests.fakes.platform_doors import World, opened
from tests.fakes.serving import FakeServing

SERVING_LINKS = ("endpoint", "route", "server", "served file", "answers")


def mlflow_of(world: World) -> MlflowRegistry:
    """A real registry with what the fake one remembers."""
    folder = world.home.folder("mlflow")
    real = MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}")
    for version in world.registry.versions("tiny"):
        run = real.open_run("tiny", "train", {"llmops.fingerprint": version.facts().fingerprint})
        real.log(run, {"loss": [(0, 2.0), (1, 1.0)]}, {"rate": 0.1}, {})
        uri = version.tags["llmops.artifact_uri"]
        request = RegistrationRequest(version.facts(), run, version.tags[SIGNATURE_TAG], uri, version.description)
        assert real.register(request).version == version.version
    real.set_alias("tiny", "production", 1)
    return real


@pytest.fixture
def source(released: World) -> World:
    released.registry = mlflow_of(released)  # type: ignore[assignment]
    released.doors().feedback.submit("tiny", [Rating("What?", "That.", 1)])
    return released


@pytest.fixture
def archive(source: World, tmp_path: Path) -> Path:
    file = tmp_path / "state.tar"
    export_state(source.doors(), file)
    return file


@pytest.fixture
def target(source: World, tmp_path: Path) -> World:
    """Another home of the same repository, in which nothing is."""
    world = copy.copy(source)
    world.home = Home(source.home.repository, tmp_path / "elsewhere", source.home.port_base)
    world.gateway = world.server.gateway = AnsweringGateway(ANSWERS)
    world.serving = FakeServing()
    database = world.home.folder("mlflow") / "mlflow.db"
    world.registry = MlflowRegistry(f"sqlite:///{database}")  # type: ignore[assignment]
    return world


def seen(platform: Platform) -> dict[str, str]:
    return {link.name: link.verdict for link in audit(platform, "tiny")}


def test_the_audit_of_a_moved_model_said_something_else(
    source: World, target: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.server.gateway = source.gateway
    before, file = seen(source.doors()), tmp_path / "state.tar"
    assert set(before.values()) == {"verified"}
    facts = source.doors().ledger.entries()
    told = export_state(source.doors(), file)
    source.server.gateway = target.gateway
    done = import_state(target.doors(), file)
    assert (done.facts, done.new_facts, done.artifacts) == (len(facts), len(facts), told.artifacts)
    moved = target.doors()
    assert moved.ledger.entries() == facts
    assert moved.artifacts.listed() == source.doors().artifacts.listed()
    after = seen(moved)
    assert {n: v for n, v in after.items() if n not in SERVING_LINKS} == {
        n: v for n, v in before.items() if n not in SERVING_LINKS
    }
    assert moved.feedback.ratings("tiny") == [Rating("What?", "That.", 1)]
    own, theirs = (world.home.root / "keys/platform" for world in (target, source))
    assert own.read_bytes() != theirs.read_bytes()
    opened(target, monkeypatch)
    assert target.materialize("production").success
    assert set(seen(target.doors()).values()) == {"verified"}
    artifact_uri = moved.registry.versions("tiny")[0].tags["llmops.artifact_uri"]
    assert artifact_uri.startswith(target.home.root.as_uri())


def test_an_import_that_died_could_not_be_repeated(
    archive: Path, target: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def dying(*_: object, **__: object) -> None:
        raise Died

    for place, name in (
        ("resources.storage.artifact_store.FolderArtifacts", "publish"),
        ("resources.registry.registry.MlflowRegistry", "import_from"),
        ("resources.ledger.ledger.SqlLedger", "restore"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"{place}.{name}", dying)
            with pytest.raises(Died):
                import_state(target.doors(), archive)
        assert target.doors().ledger.facts() == []
    first = import_state(target.doors(), archive)
    assert first.new_facts == first.facts > 0
    again = import_state(target.doors(), archive)
    assert again.new_facts == 0 and again.artifacts == first.artifacts
    assert {n: v for n, v in seen(target.doors()).items() if n not in SERVING_LINKS and v != "verified"} == {}


def test_a_platform_with_facts_of_its_own_was_written_over(archive: Path, target: World) -> None:
    own = target.doors().ledger.append("requested", model="tiny", subject="run", body={"generation": 1})
    with pytest.raises(InputError, match="facts of its own"):
        import_state(target.doors(), archive)
    assert target.doors().ledger.facts() == [own]
    assert target.doors().artifacts.listed() == []
    assert target.registry.versions("tiny") == []


def spoil_bytes(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20_000])


def add_stranger(file: Path) -> None:
    with tarfile.open(file, "a") as tar:
        tar.add(__file__, "artifacts/weights/planted.py")


def lead_out(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "../planted.py")


def no_archive(file: Path) -> None:
    file.write_text("nothing of the kind")


@pytest.mark.parametrize("spoil", [spoil_bytes, cut_off, lead_out, no_archive])
def test_an_archive_that_is_not_whole_was_taken_in(archive: Path, target: World, spoil: Callable[[Path], None]) -> None:
    spoil(archive)
    with pytest.raises(IntegrityError, match=str(archive)):
        import_state(target.doors(), archive)
    assert target.doors().ledger.facts() == []
    assert not list(target.home.root.rglob("planted.py"))


def test_what_stands_behind_the_manifest_was_read(archive: Path, target: World) -> None:
    add_stranger(archive)
    import_state(target.doors(), archive)
    assert not list(target.home.root.rglob("planted.py"))


def test_damaged_state_was_exported_as_if_it_were_sound(source: World, tmp_path: Path) -> None:
    place = source.step("weights").artifact("weights").path / "report.json"
    place.chmod(0o600)
    place.write_bytes(place.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=r"report\.json of weights .* is not what was made"):
        export_state(source.doors(), tmp_path / "state.tar")
    assert not (tmp_path / "state.tar").exists()


def test_an_archive_was_written_over_another_or_read_by_others(source: World, archive: Path) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600
    before = archive.stat()
    with pytest.raises(InputError, match="nothing is written over it"):
        export_state(source.doors(), archive)
    assert archive.stat() == before
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        assert names[-1] == "manifest.json"
        assert not [name for name in names if "keys" in name and not name.endswith(".pub")]
        ledger = tar.extractfile("ledger.json")
        assert ledger is not None and json.load(ledger)[0]["sequence"] == 1
