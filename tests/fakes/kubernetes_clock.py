"""The time of the stand-in: the machine's own, plus what a test adds. Advancing it ends deadlines and times to live
at once; leaving it ahead or behind is a cluster whose clock is skewed against ours."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    def __init__(self) -> None:
        self._ahead_seconds = 0.0
        self._lock = threading.Lock()
        self._wake: list[Callable[[], None]] = []

    def seconds(self) -> float:
        return time.time() + self._ahead_seconds

    def advance(self, seconds: float) -> None:
        """Also backwards: a negative number of seconds."""
        with self._lock:
            self._ahead_seconds += seconds
        for wake in self._wake:
            wake()

    def on_advance(self, wake: Callable[[], None]) -> None:
        self._wake.append(wake)

    def stamp(self) -> str:
        """To the second, as objects carry it."""
        return datetime.fromtimestamp(int(self.seconds()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def fine_stamp(self) -> str:
        """To the nanosecond's nine digits, as log lines carry it."""
        seconds = self.seconds()
        return (
            datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{int(seconds % 1 * 1e9):09d}Z"
        )


def parsed(stamp: str) -> float:
    """Seconds of either form."""
    head, _, fraction = stamp.rstrip("Z").partition(".")
    whole = datetime.strptime(head, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    return whole + (float(f"0.{fraction}") if fraction else 0.0)
