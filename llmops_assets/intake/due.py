"""Making a tick of a sensor due at once, without its cursor ever being at risk.

Dagster has no call for it. Its daemon looks every five seconds which sensors are due, which a sensor is when its last
tick began longer ago than its interval; when that was stands in one record together with the cursor. So here both times
are taken out of that record, as if the sensor had never ticked, and the daemon's next look starts a tick. Why no cursor
can be lost, whatever happens between any two steps:

- The record is replaced only if it is, to the letter, the one that was read (compare and swap, one statement in SQLite
  and PostgreSQL alike). What the daemon or a person wrote meanwhile stays.
- The daemon writes the record when a tick begins and when it ends, each time with the cursor that it knows then. This
  may undo what was written here, never the other way round.

What was undone is written again, once a second, until a tick has begun after the push. So a push in the middle of a
tick, which may have looked already, gets a tick of its own. If all this fails, the sensor's interval still holds.
"""

import logging
import threading
import time
from collections.abc import Callable

from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, SensorInstigatorData
from dagster._core.storage.schedules.schema import InstigatorsTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage
from dagster._serdes import deserialize_value, serialize_value
from dagster_shared.serdes.errors import DeserializationError
from sqlalchemy import select, update

SENSORS = "repository"  # what the names of the sensors that look at repositories begin with
PAUSE_SECONDS = 1.0
ATTEMPTS = 300  # a tick that takes longer than this is followed by one when the sensor's interval says so

CLOCKS_DIFFER_SECONDS = 60.0  # between this machine and the daemon's

log = logging.getLogger("llmops.intake")


class DueTicks:
    """Asked any number of times, a thread of its own makes the sensors due until they have ticked. `first` is done
    before that, once for each time."""

    def __init__(self, instance: DagsterInstance, first: Callable[[], None] = lambda: None) -> None:
        self._instance = instance
        self._first = first
        self._asked = threading.Event()

    def ask(self) -> None:
        """Returns at once."""
        self._asked.set()

    def start(self) -> None:
        threading.Thread(target=self._serve, name="due ticks", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            since = time.time()
            try:
                self._first()
            except Exception as error:  # noqa: BLE001 (as below)
                log.warning("the look may wait longer than it need: %s: %s", type(error).__name__, error)
            self._until_begun(since)

    def _until_begun(self, since: float) -> None:
        for _ in range(ATTEMPTS):
            try:
                if not make_due(self._instance, since):
                    return
            except Exception as error:  # noqa: BLE001 (the thread must live: pushes are answered whether it does or not)
                log.warning("sensors cannot be made due, it is tried again: %s: %s", type(error).__name__, error)
            time.sleep(PAUSE_SECONDS)
            if self._asked.is_set():
                return


def make_due(instance: DagsterInstance, since: float) -> list[str]:
    """Makes the repository sensors due whose last tick began before `since` (Unix seconds); returns their names.

    A sensor that is switched off stays off, and one that never ticked is due anyway.
    """
    storage = instance.schedule_storage
    if not isinstance(storage, SqlScheduleStorage):
        return []
    table = InstigatorsTable.c
    query = select(table.selector_id, table.instigator_body).where(table.instigator_type == InstigatorType.SENSOR.value)
    with storage.connect() as connection:
        records = connection.execute(query).all()
    waiting: list[str] = []
    for selector, text in records:
        try:
            state = deserialize_value(text, InstigatorState)
        except DeserializationError as error:  # one record, of another version of Dagster perhaps: the others count
            log.warning("the record of a sensor cannot be read: %s", error)
            continue
        data = state.instigator_data
        ours = state.is_running and state.instigator_name.startswith(SENSORS)
        if not ours or not isinstance(data, SensorInstigatorData) or _began(data) >= since:
            continue
        waiting.append(state.instigator_name)
        if data != (never := _never_ticked(data)):
            _replace(storage, selector, text, serialize_value(state.with_data(never)))
    return waiting


def _began(data: SensorInstigatorData) -> float:
    """When the last tick began; 0 for none, and for one in the future: the clock was set back, and who believed it
    would take no push for acted on, or every push, until then."""
    began = max(data.last_tick_start_timestamp or 0.0, data.last_tick_timestamp or 0.0)
    return began if began <= time.time() + CLOCKS_DIFFER_SECONDS else 0.0


def _never_ticked(data: SensorInstigatorData) -> SensorInstigatorData:
    return data._replace(last_tick_timestamp=None, last_tick_start_timestamp=None)


def _replace(storage: SqlScheduleStorage, selector: str, read: str, new: str) -> None:
    """Writes the record unless somebody else did since it was read."""
    table = InstigatorsTable.c
    same = (table.selector_id == selector) & (table.instigator_body == read)
    with storage.connect() as connection:
        connection.execute(update(InstigatorsTable).where(same).values(instigator_body=new))
