"""Hearing a job: every piece of what its pods say becomes one event of the run, once, whoever listens how often.

The event that shows a piece also holds the piece's number, so showing it and remembering that it was shown are one
write. A step that is started again reads its run's events and goes on with the next piece. Progress is handed on after
its event is written: a listener that dies between the two has shown it, and the next report replaces it.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from dagster_aws.pipes import PipesS3MessageReader

from llmops_core.errors import TransientError
from resources.job_run import WaitingRun
from resources.job_transport import JobRecords, JobStore
from resources.jobs import Progress, progress_line

KINDS = ("messages", "log")


class Hearing:
    """What the pods of attempt `number` of a job say, told to the run that waits."""

    def __init__(
        self,
        store: JobStore,
        records: JobRecords,
        number: int,
        job: str,
        recipe: str,
        run: WaitingRun,
        on_progress: Callable[[Progress], None],
        seconds: float,
    ) -> None:
        self._store, self._records, self._number, self._job, self._recipe = store, records, number, job, recipe
        self._run, self._on_progress, self._seconds = run, on_progress, seconds
        self._reader = PipesS3MessageReader(bucket=store.bucket, client=store.client)
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
        if kind == "log":
            piece = self._records.log(self._number, pod, index)
            return None if piece is None else piece.decode(errors="replace")
        prefix = f"{self._records.pod_prefix(self._number, pod)}/messages"
        asked = self._store.place.asked
        return asked(lambda: self._reader.download_messages_chunk(index, {"key_prefix": prefix}))

    def _understood(self, piece: str) -> tuple[str, list[Progress]]:
        """(what to show, the progress reports) of some Pipes messages."""
        lines: list[str] = []
        progress: list[Progress] = []
        for line in piece.splitlines():
            message = json.loads(line)
            params = message.get("params") or {}
            payload = params.get("payload")
            if isinstance(payload, dict) and "gpu" in payload:
                self._gpu = payload["gpu"]
            elif isinstance(payload, dict) and "progress" in payload:
                progress.append({**payload["progress"], **self._gpu})
            else:
                lines += _shown(message["method"], params)
        last = [progress_line(self._recipe, progress[-1])] if progress else []
        return "\n".join([*lines, *last]) or f"{self._recipe} is heard", progress


def _shown(method: str, params: Mapping[str, Any]) -> list[str]:
    if method == "log":
        level = str(params.get("level", "info")).lower()
        return [params["message"] if level == "info" else f"{level}: {params['message']}"]
    if method == "closed" and "exception" in params:
        raised = params["exception"]
        return [f"it ended with {raised.get('name')}: {raised.get('message')}".strip()]
    return [] if method in ("opened", "closed") else [f"{method}: {json.dumps(params)}"]
