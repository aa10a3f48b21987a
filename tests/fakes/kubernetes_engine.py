"""What moves the stand-in: controllers that look again at an object whenever something about it changed.

As in a cluster, each controller has a queue of keys. A change puts the keys that a controller derives from it into the
queue; a reconciliation may ask to be called again after some seconds, by the stand-in's clock. One thread serves all
queues, or a test calls `settle` itself after `pause`, to look at a moment between two controllers.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from tests.fakes.kubernetes_clock import Clock
from tests.fakes.kubernetes_errors import ApiError
from tests.fakes.kubernetes_store import Change, Key, Store

AGAIN_SECONDS, LONGEST_SECONDS = 1.0, 60.0  # after a refused write, twice as long each time


class Controller(ABC):
    @abstractmethod
    def concerned(self, change: Change) -> Iterable[Key]:
        """The keys to look at again after a change."""

    @abstractmethod
    def reconcile(self, key: Key) -> float | None:
        """Moves the world one step; the seconds after which to look again, if time alone can change something."""


class Engine:
    def __init__(self, store: Store, clock: Clock, controllers: Sequence[Controller]) -> None:
        self._store, self._clock, self._controllers = store, clock, controllers
        self._seen = store.version
        self._due: dict[tuple[int, Key], float] = {}
        self._refused: dict[tuple[int, Key], int] = {}
        self._paused = self._stopped = False
        self._busy = False
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="kubernetes-controllers", daemon=True)
        clock.on_advance(self.wake)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._store.changed:
            self._stopped = True
            self._store.changed.notify_all()
        self._thread.join()

    def pause(self) -> None:
        """Nothing moves until `resume`: a job has no pods, a pod no node."""
        with self._store.changed:
            self._paused = True

    def resume(self) -> None:
        with self._store.changed:
            self._paused = False
            self._store.changed.notify_all()

    def wake(self) -> None:
        with self._store.changed:
            self._store.changed.notify_all()

    def look(self, controller: Controller, key: Key) -> None:
        """Looks at a key again now."""
        with self._store.changed:
            self._due[self._controllers.index(controller), key] = 0.0
            self._store.changed.notify_all()

    def settle(self, timeout_seconds: float = 10.0) -> None:
        """Waits until no controller has anything to do now; what only time will bring does not count."""
        until = time.monotonic() + timeout_seconds
        with self._store.changed:
            while self._busy or self._seen < self._store.version or self._ripe():
                if self._paused:
                    self._step()
                elif time.monotonic() > until:
                    raise TimeoutError("the controllers do not come to rest")
                else:
                    self._store.changed.wait(0.05)
        if self.failures:
            raise self.failures[0]

    def _run(self) -> None:
        while True:
            with self._store.changed:
                while not self._stopped and (self._paused or not self._step()):
                    self._store.changed.wait(self._wait_seconds())
                if self._stopped:
                    return

    def _step(self) -> bool:
        """One round over what changed and what is due; False when there was nothing. The lock is held."""
        self._notice()
        ripe = self._ripe()
        for at, key in ripe:
            del self._due[at, key]
        for at, key in ripe:
            self._reconcile(at, key)
        self._store.changed.notify_all() if ripe else None
        return bool(ripe)

    def _notice(self) -> None:
        for change in self._store.since(self._seen):
            for at, controller in enumerate(self._controllers):
                for key in controller.concerned(change):
                    self._due[at, key] = 0.0
        self._seen = self._store.version

    def _ripe(self) -> list[tuple[int, Key]]:
        now = self._clock.seconds()
        return sorted(entry for entry, due in self._due.items() if due <= now)

    def _wait_seconds(self) -> float | None:
        if self._paused or not self._due:
            return None
        return max(min(self._due.values()) - self._clock.seconds(), 0.0)

    def _reconcile(self, at: int, key: Key) -> None:
        try:
            again = self._controllers[at].reconcile(key)
        except ApiError:
            refused = self._refused[at, key] = self._refused.get((at, key), 0) + 1
            again = min(AGAIN_SECONDS * 2 ** (refused - 1), LONGEST_SECONDS)
        except Exception as error:  # noqa: BLE001 - told to the test by settle() and on closing; the others go on
            self.failures.append(error)
            return
        else:
            self._refused.pop((at, key), None)
        if again is not None:
            due = self._clock.seconds() + again
            self._due[at, key] = min(self._due.get((at, key), due), due)


def controlled_by(found: dict[str, Any], kind: str) -> Key | None:
    """The key of the controller of that kind, by the owner references."""
    metadata = found["metadata"]
    for owner in metadata.get("ownerReferences") or []:
        if owner.get("controller") and owner["kind"] == kind:
            return metadata.get("namespace", ""), owner["name"]
    return None
