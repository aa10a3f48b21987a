"""How far a recipe is and how long it still takes: one line a second for people, the same facts for an orchestrator.

A recipe runs as a program of its own, so progress has two readers. A person reads standard error. The orchestrator that
launched the program through Dagster Pipes (its environment variables are then present) receives custom messages
`{"progress": {"done", "total", "seconds_left", ...}}`; without one the recipe runs just the same.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_pipes import PipesContext

PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"


class Progress:
    """Reports at most once every `interval_seconds`, and always when the work is done.

    `gauges` are read only when a report goes out, because reading them takes time.
    """

    gauges: Callable[[], Mapping[str, float]] = staticmethod(dict)

    def __init__(self, pipes: "PipesContext | None" = None, interval_seconds: float = 1.0) -> None:
        self._pipes = pipes
        self._interval_seconds = interval_seconds
        self._started: float | None = None
        self._first = 0
        self._last = float("-inf")

    def report(self, done: int, total: int, **figures: float) -> None:
        """`done` of `total` units of work are finished; `figures` (loss=0.3, …) are shown beside it."""
        now = time.monotonic()
        if self._started is None or done <= 1:
            self._started, self._first = now, done
        if done < total and now - self._last < self._interval_seconds:
            return
        self._last = now
        # The first unit warms up caches, so the rate is that of the others. (Resumed work begins in its midst.)
        rate = (done - self._first) / (now - self._started) if done > self._first and now > self._started else 0.0
        seconds_left = (total - done) / rate if rate else None
        figures = {**figures, **self.gauges()}
        self._print(done, total, seconds_left, figures)
        if self._pipes is not None:
            message = {"done": done, "total": total, "seconds_left": seconds_left, **figures}
            self._pipes.report_custom_message({"progress": message})

    def _print(self, done: int, total: int, seconds_left: float | None, figures: dict[str, float]) -> None:
        parts = [" ".join([f"{done}/{total}", *(f"{name} {value:.3g}" for name, value in figures.items())])]
        if seconds_left is not None:
            parts.append(f"{seconds_left:.0f} s left")
        print(", ".join(parts), file=sys.stderr, flush=True)


class Silent(Progress):
    """That of a process which works for another one: that one reports."""

    def report(self, done: int, total: int, **figures: float) -> None:
        pass


@contextmanager
def open_progress(first: bool = True) -> Iterator[Progress]:
    """Progress for this process: to standard error, and to Dagster Pipes when it launched us."""
    if not first:
        yield Silent()
        return
    if PIPES_VARIABLE not in os.environ:
        yield Progress()
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        yield Progress(pipes)
