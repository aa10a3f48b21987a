"""Making a tick due: it comes at once, and neither the cursor nor anybody's switch is lost on the way."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster_shared.serdes.errors import DeserializationError

from llmops_assets.definitions import defs
from llmops_assets.intake import due
from llmops_assets.intake.__main__ import end_pauses
from llmops_assets.intake.due import SENSORS, DueTicks, make_due
from llmops_core.errors import TransientError
from resources.home import home_from
from resources.storage.publishing import exclusive
from resources.wiring import build_platform

REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("llmops_assets"), "__repository__")
TICKED = SensorInstigatorData(
    last_tick_timestamp=1000.0,
    last_run_key="key",
    min_interval=15,
    cursor="cursor",
    last_tick_start_timestamp=1001.0,
    last_sensor_start_timestamp=5.0,
    last_tick_success_timestamp=1002.0,
)


def state(name: str = "repository", data: SensorInstigatorData = TICKED, running: bool = True) -> InstigatorState:
    status = InstigatorStatus.DECLARED_IN_CODE if running else InstigatorStatus.STOPPED
    return InstigatorState(RemoteInstigatorOrigin(REPOSITORY, name), InstigatorType.SENSOR, status, data)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def data_of(instance: DagsterInstance, one: InstigatorState) -> SensorInstigatorData:
    found = instance.get_instigator_state(one.instigator_origin_id, one.selector_id)
    assert found is not None and isinstance(found.instigator_data, SensorInstigatorData)
    return found.instigator_data


def test_the_sensor_that_looks_at_the_repository_has_another_name() -> None:
    assert any(sensor.name.startswith(SENSORS) for sensor in defs.sensors or [])


def test_a_sensor_was_not_made_due_or_lost_more_than_its_times(instance: DagsterInstance) -> None:
    instance.add_instigator_state(state())
    assert make_due(instance, since=2000.0) == ["repository"]
    found = data_of(instance, state())
    assert (found.last_tick_timestamp, found.last_tick_start_timestamp) == (None, None)
    assert found == TICKED._replace(last_tick_timestamp=None, last_tick_start_timestamp=None)
    assert make_due(instance, since=2000.0) == ["repository"]  # until a tick has begun


def test_a_tick_after_the_push_was_followed_by_another(instance: DagsterInstance) -> None:
    instance.add_instigator_state(state())
    assert make_due(instance, since=1001.0) == [] and data_of(instance, state()) == TICKED


def test_another_sensor_or_one_that_is_switched_off_was_touched(instance: DagsterInstance) -> None:
    others = [state("approvals"), state(running=False)]
    for one in others:
        instance.add_instigator_state(one)
    assert make_due(instance, since=2000.0) == []
    assert [data_of(instance, one) for one in others] == [TICKED, TICKED]


def test_a_record_that_changed_since_it_was_read_was_overwritten(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon ends a tick between our reading and our writing: its cursor stays."""
    instance.add_instigator_state(state())
    later = TICKED._replace(cursor="later", last_tick_timestamp=1500.0)
    real = due.serialize_value

    def meanwhile(value: InstigatorState) -> str:
        instance.update_instigator_state(state(data=later))
        return real(value)

    monkeypatch.setattr(due, "serialize_value", meanwhile)
    assert make_due(instance, since=2000.0) == ["repository"]
    assert data_of(instance, state()) == later


def test_an_unknown_failure_ended_the_thread_and_pushes_were_still_accepted(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = threading.Semaphore(0)

    def fails(*_: object) -> list[str]:
        tries.release()
        raise DeserializationError("a record of a newer Dagster")

    monkeypatch.setattr(due, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(due, "ATTEMPTS", 3)
    monkeypatch.setattr(due, "make_due", fails)
    ticks = DueTicks(instance)
    ticks.start()
    for _ in range(2):
        ticks.ask()
        assert all(tries.acquire(timeout=5) for _ in range(3))


def test_a_push_did_not_end_the_pause_after_an_outage_of_its_host(
    instance: DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.git.mirror.LOCK_SECONDS", 0.05)
    (tmp_path / ".git").mkdir()
    (tmp_path / "config").mkdir()
    own = (Path(__file__).parents[2] / "config" / "local.yaml").read_text()
    names = [f"{{name: {name}, url: 'file://{tmp_path}/{name}', branch: main}}" for name in ("busy", "silent")]
    (tmp_path / "config" / "local.yaml").write_text(f"{own}\nrepositories: [{', '.join(names)}]\n")
    doors = build_platform(home_from({"LLMOPS_REPOSITORY": str(tmp_path), "LLMOPS_HOME": str(tmp_path)}, tmp_path))
    mirrors = [doors.at(each.name).mirror for each in doors.settings.repositories]
    for mirror in mirrors:
        with pytest.raises(TransientError):
            mirror.refresh(600)
    instance.add_instigator_state(state())
    with exclusive(tmp_path / "mirrors" / "busy" / "lock"):  # it is being fetched: the others are not forgotten
        ticks = DueTicks(instance, lambda: end_pauses(doors))
        ticks.start()
        ticks.ask()
        deadline = time.monotonic() + 10
        while data_of(instance, state()).last_tick_timestamp is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [mirror.reach().pauses(time.time()) for mirror in mirrors] == [True, False]


def test_a_record_that_cannot_be_read_kept_the_others_from_being_due(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (state("newer"), state()):
        instance.add_instigator_state(one)
    real = due.deserialize_value

    def of_this_version(text: str, kind: type) -> object:
        if '"newer"' in text:
            raise DeserializationError("unknown field")
        return real(text, kind)

    monkeypatch.setattr(due, "deserialize_value", of_this_version)
    assert make_due(instance, since=2000.0) == ["repository"]


def test_pushes_were_ignored_for_as_long_as_the_clock_was_set_back(instance: DagsterInstance) -> None:
    ahead = time.time() + 3600
    instance.add_instigator_state(state(data=TICKED._replace(last_tick_timestamp=ahead)))
    assert make_due(instance, since=time.time()) == ["repository"]
    assert data_of(instance, state()).last_tick_timestamp is None  # else the daemon would wait an hour as well


def test_a_cursor_was_lost_while_ticks_were_made_due(instance: DagsterInstance) -> None:
    """One thread does to the record what the daemon does, as fast as it can, another makes ticks due all the while."""
    instance.add_instigator_state(state(data=TICKED._replace(cursor="0")))
    ended, made = threading.Event(), [0]

    def always_due() -> None:
        while not ended.is_set():
            made[0] += len(make_due(instance, since=time.time()))

    def tick(number: int) -> None:
        for cursor, update in ((number - 1, {"last_tick_start_timestamp": time.time()}), (number, {})):
            found = data_of(instance, state())
            assert found.cursor == str(number - 1)
            changed = {"cursor": str(cursor), "last_tick_timestamp": time.time(), **update}
            instance.update_instigator_state(state(data=found._replace(**changed)))

    thread = threading.Thread(target=always_due)
    thread.start()
    try:
        for number in range(1, 60):
            tick(number)
    finally:
        ended.set()
        thread.join()
    assert data_of(instance, state()).cursor == "59" and made[0] > 0  # how often is a matter of load


def test_a_push_in_the_middle_of_a_tick_got_no_tick_of_its_own(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "PAUSE_SECONDS", 0.01)
    instance.add_instigator_state(state())
    began, ticks = time.time(), DueTicks(instance)
    ticks.start()
    ticks.ask()
    deadline = time.monotonic() + 10

    def until(due_now: bool) -> None:
        while (data_of(instance, state()).last_tick_timestamp is None) != due_now:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    until(due_now=True)
    instance.update_instigator_state(state(data=TICKED._replace(last_tick_timestamp=began - 1)))  # it ends
    until(due_now=True)
    after = TICKED._replace(last_tick_start_timestamp=time.time(), last_tick_timestamp=time.time())
    instance.update_instigator_state(state(data=after))
    time.sleep(0.2)
    assert data_of(instance, state()) == after  # the tick that was wanted has begun: nothing more is asked for
