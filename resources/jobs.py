"""Jobs: recipes as programs of their own, told and heard through Dagster Pipes.

The same program runs here as a child process and on a cluster as a pod. It gets folders and a config file, writes a
folder and a report, and streams log lines and progress over the Pipes protocol while it runs. What it prints goes to
a log file, whose last lines explain a failure.
"""

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dagster import AssetExecutionContext, PipesMessageReader, open_pipes_session
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.pipes.context import PipesMessageHandler
from dagster._core.pipes.utils import PipesFileMessageReader, PipesTempFileContextInjector
from dagster_pipes import PipesParams

from llmops_core.errors import InputError, Problem, TransientError

ERROR_OF_INPUT = 1
STOP_SECONDS = 20
TAIL_BYTES = 2000

Progress = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run of `python -m recipes.<recipe>` in `code` (a clean export of the revision), with `arguments`."""

    recipe: str
    arguments: Sequence[str]
    code: Path
    work: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Jobs(ABC):
    """Runs a recipe to its end. Raises InputError when the recipe blames its input, TransientError for a crash."""

    @abstractmethod
    def run(self, job: Job, context: AssetExecutionContext, on_progress: Callable[[Progress], None]) -> None:
        """Streams the recipe's log into the run and calls `on_progress` from another thread as it reports."""


class LocalJobs(Jobs):
    """Child processes of the run's own process; they end with it."""

    def run(self, job: Job, context: AssetExecutionContext, on_progress: Callable[[Progress], None]) -> None:
        job.work.mkdir(parents=True, exist_ok=True)
        log = job.work / f"{job.recipe}.log"
        command = [sys.executable, "-m", f"recipes.{job.recipe}", *job.arguments]
        reader = _ProgressReader(str(job.work / f"{job.recipe}.messages"), on_progress)
        with (
            open_pipes_session(context, PipesTempFileContextInjector(), reader) as session,
            log.open("ab") as output,
        ):
            environment = {**os.environ, **job.environment, **session.get_bootstrap_env_vars()}
            environment["PYTHONPATH"] = str(job.code)
            process = subprocess.Popen(command, cwd=job.code, env=environment, stdout=output, stderr=output)
            code = _wait(process)
        if code != 0:
            raise _failure(job.recipe, code, log)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code; a cancelled run asks the job to stop and, if it will not, ends it."""
    try:
        return process.wait()
    except (DagsterExecutionInterruptedError, KeyboardInterrupt):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def _failure(recipe: str, code: int, log: Path) -> Exception:
    said = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
    if code == ERROR_OF_INPUT:
        last = said.splitlines()[-1] if said else "it gave no reason"
        return InputError(Problem(f"recipes/{recipe}.py", "", "input it cannot use", "see the message", last))
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"crashed with exit code {code}"
    return TransientError(f"{recipe} {how}; its last words:\n{said}")


class _ProgressReader(PipesMessageReader):
    """Reads Pipes messages from a file and hands each progress report on while the job still runs."""

    def __init__(self, path: str, on_progress: Callable[[Progress], None]) -> None:
        self._inner = PipesFileMessageReader(path)
        self._on_progress = on_progress

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        tap = cast("PipesMessageHandler", _Tap(handler, self._on_progress))
        with self._inner.read_messages(tap) as params:
            yield params

    def no_messages_debug_text(self) -> str:
        return "The recipe opened no Pipes session."


class _Tap:
    """A message handler that looks at custom messages on their way to Dagster's own."""

    def __init__(self, handler: PipesMessageHandler, on_progress: Callable[[Progress], None]) -> None:
        self._handler = handler
        self._on_progress = on_progress

    def handle_message(self, message: Any) -> None:
        payload = (message.get("params") or {}).get("payload")
        if message["method"] == "report_custom_message" and isinstance(payload, dict) and "progress" in payload:
            self._on_progress(payload["progress"])
            return
        self._handler.handle_message(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)
