"""Hearing a job: every piece of what its pods say becomes one event of the run, once, whoever listens how often.

The event that shows a piece also holds the piece's number, so showing it and remembering that it was shown are one
write. A step that is started again reads its run's events and goes on with the next piece. Progress is handed on after
its event is written: a listener that dies between the two has shown it, and the next report replaces it.

A recipe writes what it likes. What is no message is shown as it is, and cut where it is endless: what a job said must
never keep anybody from its result.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from llmops_core.errors import TransientError
from resources.jobs.job_run import WaitingRun
from resources.jobs.job_transport import JobRecords
from resources.jobs.jobs import Progress, figures_of, progress_line, progress_of

KINDS = ("messages", "log")
LONGEST_LINE = 60_000  # characters of one message that are shown


class Hearing:
    """What the pods of attempt `number` of a job say, told to the run that waits."""

    def __init__(
        self,
        records: JobRecords,
        number: int,
        job: str,
        recipe: str,
        run: WaitingRun,
        on_progress: Callable[[Progress], None],
        seconds: float,
    ) -> None:
        self._records, self._number, self._job, self._recipe = records, number, job, recipe
        self._run, self._on_progress, self._seconds = run, on_progress, seconds
        self._positions = {(pod, kind): index for name, pod, kind, index in run.heard() if name == job}
        self._next = float("-inf")
        self._gpu: dict[str, float] = {}

    def listen(self, pods: Iterable[str]) -> None:
        """Tells what is new, at most every few seconds. An outage of the store is waited for."""
        if time.monotonic() < self._next:
            return
        with suppress(TransientError):  # the pieces stay where they are
            self._tell_all(pods)
        self._next = time.monotonic() + self._seconds

    def finish(self, pods: Iterable[str]) -> None:
        """Tells what is left when nobody speaks any more, of pods that were never seen too."""
        self._tell_all({*pods, *self._records.pods(self._number)})

    def _tell_all(self, pods: Iterable[str]) -> None:
        for pod in sorted(pods):
            for kind in KINDS:
                while self._tell(pod, kind):
                    pass

    def _tell(self, pod: str, kind: str) -> bool:
        index = self._positions.get((pod, kind), 0) + 1
        piece = self._piece(pod, kind, index)
        if piece is None:
            return False
        said, progress = self._understood(piece) if kind == "messages" else (piece.rstrip("\n"), [])
        self._run.show(said, heard=(self._job, pod, kind, index))
        self._positions[pod, kind] = index
        for each in progress:
            self._on_progress(each)
        return True

    def _piece(self, pod: str, kind: str, index: int) -> str | None:
        read = self._records.log if kind == "log" else self._records.messages
        piece = read(self._number, pod, index)
        return None if piece is None else piece.decode(errors="replace")

    def _understood(self, piece: str) -> tuple[str, list[Progress]]:
        """(what to show, the progress reports) of some Pipes messages."""
        lines: list[str] = []
        progress: list[Progress] = []
        for line in filter(str.strip, piece.split("\n")):
            method, params = _message(line)
            payload = params.get("payload")
            if method is None:
                lines.append(line)
            elif isinstance(payload, dict) and isinstance(payload.get("gpu"), dict):
                self._gpu = figures_of(payload["gpu"])
            elif (report := progress_of(payload)) is not None:
                progress.append({**report, **self._gpu})
            else:
                lines += _shown(method, params)
        last = [progress_line(self._recipe, progress[-1])] if progress else []
        return "\n".join([*map(_cut, lines), *last]) or f"{self._recipe} is heard", progress


def _message(line: str) -> tuple[str | None, Mapping[str, Any]]:
    """(method, parameters) of a Pipes message; no method for what is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None, {}
    params = (message.get("params") or {}) if isinstance(message, dict) else None
    return (str(message.get("method")), params) if isinstance(params, dict) else (None, {})


def _cut(line: str) -> str:
    left = len(line) - LONGEST_LINE
    return line if left <= 0 else f"{line[:LONGEST_LINE]}… ({left} characters more)"


def _shown(method: str, params: Mapping[str, Any]) -> list[str]:
    if method == "log":
        level = str(params.get("level", "info")).lower()
        told = str(params.get("message"))
        return [told if level == "info" else f"{level}: {told}"]
    if method == "closed" and isinstance(raised := params.get("exception"), dict):
        return [f"it ended with {raised.get('name')}: {raised.get('message')}".strip()]
    return [] if method in ("opened", "closed") else [f"{method}: {json.dumps(params)}"]
