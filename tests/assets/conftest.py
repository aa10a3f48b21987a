"""Three moments of one tiny model: nothing done yet, version 1 in production, and version 2 approved behind it."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes.http_gateway import GatewayServer
from tests.fakes.people import demand_people
from tests.fakes.platform_doors import UNTIL_APPROVAL, Snapshot, World, new_world, opened, remove, serving_gateway


@pytest.fixture(scope="session")
def gateway_server() -> Iterator[GatewayServer]:
    with serving_gateway() as server:
        yield server


@pytest.fixture(scope="session")
def moments(tmp_path_factory: pytest.TempPathFactory, gateway_server: GatewayServer) -> Iterator[dict[str, Snapshot]]:
    folder: Path = tmp_path_factory.mktemp("worlds")
    world = new_world(folder / "world", gateway_server)
    found = {"begun": Snapshot.of(world, folder / "begun")}
    with pytest.MonkeyPatch.context() as patch:
        opened(world, patch)
        done = world.materialize()
        assert done.success, [str(event.message) for event in done.all_events if event.is_failure]
        found["released"] = Snapshot.of(world, folder / "released")
        world.repository.commit_model("training", seed=2)
        assert world.materialize(*UNTIL_APPROVAL).success
        found["candidate"] = Snapshot.of(world, folder / "candidate")
        released = opened(found["released"].restored(), patch)
        demand_people(released)
        released.repository.commit_model("training", seed=2)
        assert released.materialize(*UNTIL_APPROVAL[:-1]).success
        found["tested"] = Snapshot.of(released, folder / "tested")
    yield found
    for path in folder.iterdir():
        remove(path)


def _restored(moments: dict[str, Snapshot], name: str, patch: pytest.MonkeyPatch) -> World:
    return opened(moments[name].restored(), patch)


@pytest.fixture
def begun(moments: dict[str, Snapshot], monkeypatch: pytest.MonkeyPatch) -> World:
    """A committed model and nothing else."""
    return _restored(moments, "begun", monkeypatch)


@pytest.fixture
def released(moments: dict[str, Snapshot], monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 1 went through the whole story and serves in production."""
    return _restored(moments, "released", monkeypatch)


@pytest.fixture
def candidate(moments: dict[str, Snapshot], monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 1 serves; version 2 is trained, staged, tested and approved, and has no production traffic yet."""
    return _restored(moments, "candidate", monkeypatch)


@pytest.fixture
def tested(moments: dict[str, Snapshot], monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 2 is staged and tested, and waits for the signature of a person (tests/fakes/people.py)."""
    return _restored(moments, "tested", monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Of the sensor of canaries: it is `ahead` seconds ahead."""
    shifted = SimpleNamespace(ahead=0.0, time=lambda: time.time() + shifted.ahead)
    monkeypatch.setattr("llmops_assets.sensors.canaries.time", shifted)
    return shifted
