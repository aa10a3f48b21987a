"""Two processes that take turns at their effects, so that a test can try every order of them.

An effect is a call that others can see: a fact, a change of the routes, a server that begins or ends, an alias. An
actor can be stopped before and after each of its effects, go on when the other one has had its turn, or be killed
there: nothing more is done by it then, not even in an `except`.
"""

import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """kill -9."""


class Actor:
    """Runs `act` in a thread of its own, up to its stops. `error` is what ended it."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self.done, self.result = False, None
        self.points = 0
        self._act, self._stop_at, self._killed = act, 0, False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        _actors[self._thread] = self
        self._thread.start()

    def go(self, stop_at: int = 0) -> None:
        """On to this point, or to the end."""
        self._stop_at = stop_at
        if not self.done:
            self._go.release()
            self._stopped.acquire()

    def kill(self) -> None:
        self._killed = True
        self.go()

    def point(self) -> None:
        self.points += 1
        if self.points == self._stop_at and not self._killed:
            self._stopped.release()
            self._go.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self.result = self._act()
        except BaseException as error:  # noqa: BLE001 (what ended it is for the test to judge)
            self.error = error
        self.done = True
        del _actors[self._thread]
        self._stopped.release()


_actors: dict[threading.Thread, Actor] = {}


def point() -> None:
    """Where the actor whose thread this is may have to wait."""
    if (actor := _actors.get(threading.current_thread())) is not None:
        actor.point()


def seen(real: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, as an effect."""

    def call(*arguments: Any, **named: Any) -> Any:
        point()
        result = real(*arguments, **named)
        point()
        return result

    return call
