"""A DVC remote that does not answer: its models wait, everybody is told, and nobody else waits for it."""

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import yaml

from llmops_assets.operations import changes
from llmops_assets.sensors import repository as sensor
from llmops_core.cursor import SILENT, read_cursor
from llmops_core.errors import TransientError
from resources.data.dataset_store import DvcStore
from tests.fakes.git_with_data import MODEL
from tests.fakes.platform_doors import World
from tests.fakes.ticking import Ticking

OUT = "DVC's remote could not be reached"


@pytest.fixture
def settled(begun: World) -> Ticking:
    ticking = Ticking(begun)
    assert len(ticking.tick()) == 1
    return ticking


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were decided, in order; the remote of those that begin with `a` is out."""
    names: list[str] = []

    def decide(platform: object, model: str, *more: object) -> changes.Decision:
        names.append(model)
        if model.startswith("a"):
            raise TransientError(OUT)
        return changes.decide(platform, model, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(sensor, "decide", decide)
    return names


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass for the sensor."""
    now = [1e9]
    monkeypatch.setattr(sensor, "time", SimpleNamespace(time=lambda: now[0], monotonic=time.monotonic))

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def add(world: World, *names: str) -> None:
    world.repository.commit({f"models/{name}/model.yaml": yaml.safe_dump({**MODEL, "name": name}) for name in names})


def waiting(ticking: Ticking) -> dict[str, int]:
    cursor = read_cursor(ticking.cursor, ticking.world.doors().rules)
    assert cursor is not None
    return cursor.waiting


def test_a_silent_remote_was_asked_at_every_tick_or_failed_none(settled: Ticking, asked: list[str], later) -> None:
    add(settled.world, "aa")
    assert settled.tick() == [] and f"aa: not decided, tried again: {OUT}" in settled.said
    assert settled.tick() == [] and "tried 1 times, next at" in settled.said and asked == ["aa"]
    for pause in (16, 31, 61, 121):
        later(pause)
        with pytest.raises(TransientError, match=OUT):
            settled.evaluate()
        assert settled.tick() == [] and OUT in settled.said
    assert asked == ["aa"] * 5 and waiting(settled) == {"aa": SILENT}


def test_the_end_of_an_outage_was_not_seen(settled: Ticking, monkeypatch: pytest.MonkeyPatch, later) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DvcStore, "lacking", lambda *_: (_ for _ in ()).throw(TransientError(OUT)))
        settled.world.repository.commit_model("training", seed=5)
        settled.tick()
    assert settled.tick() == []
    later(16)
    assert len(settled.tick()) == 1 and waiting(settled) == {}
    assert settled.tick() == [] and settled.said.startswith("nothing new at ")
    assert settled.world.doors().data_reach("repository").why == ""


def test_a_new_commit_waited_for_the_pause(settled: Ticking, asked: list[str], later) -> None:
    add(settled.world, "aa")
    settled.tick()
    settled.world.repository.commit_model("training", seed=5)
    assert [request.partition_key for request in settled.tick()] == ["tiny"]
    assert asked == ["aa", "tiny"] and OUT in settled.world.doors().data_reach("repository").why


def test_models_that_come_later_in_the_alphabet_never_had_their_turn(
    settled: Ticking, asked: list[str], monkeypatch: pytest.MonkeyPatch, later
) -> None:
    monkeypatch.setattr(sensor, "DECIDING_SECONDS", 0.0)  # one model fits into a tick
    add(settled.world, "aa", "ab", "bb", "cc")
    launched = [request.partition_key for _ in range(5) for request in settled.tick()]
    assert launched == ["bb", "cc"] and asked == ["aa", "ab", "bb", "cc"]
    assert waiting(settled) == {"aa": SILENT, "ab": SILENT}


def test_data_that_was_pushed_meanwhile_waited_for_another_remote(
    settled: Ticking, asked: list[str], monkeypatch: pytest.MonkeyPatch, later
) -> None:
    add(settled.world, "aa", "bb")
    with monkeypatch.context() as patch:
        patch.setattr(DvcStore, "lacking", lambda *_: {"data/tiny": "run `dvc push`"})
        assert settled.tick() == [] and "bb: waits for data" in settled.said
    launched = [request.partition_key for _ in range(3) for request in settled.tick()]
    assert launched == ["bb"] and asked.count("aa") == 1 and waiting(settled) == {"aa": SILENT}
