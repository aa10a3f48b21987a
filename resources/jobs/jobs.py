"""Jobs: recipes as programs of their own, told and heard through Dagster Pipes.

The same program runs here as a child process and on a cluster as a pod. It gets folders and a config file, writes a
folder and a report, and streams log lines and progress over the Pipes protocol while it runs. What it prints goes to
a log file, whose last lines explain a failure.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from dagster import AssetExecutionContext, PipesMessageReader, open_pipes_session
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.pipes.context import PipesMessageHandler
from dagster._core.pipes.utils import PipesFileMessageReader, PipesTempFileContextInjector
from dagster_pipes import PipesParams

from llmops_core.cost import Asked, Bill, Spent
from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, LlmopsError, Problem, TransientError
from llmops_core.exit_codes import SIGNALS_FROM
from llmops_core.job_manifest import Needs
from llmops_core.job_orphans import GoingJob
from llmops_core.job_outcomes import ACTIONS, End, end_by_code

STOP_SECONDS = 20
ASKED_WITH_PARENT = 1  # PR_SET_PDEATHSIG
TAIL_BYTES = 2000

Progress = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run of `python -m recipes.<recipe>` in `code`, a clean export of the revision.

    The recipe gets `config` as --config, each folder of `inputs` by its name (--data FOLDER), and writes `out`. A pod
    that must have another image than the others gets `image`.
    """

    recipe: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Path]
    code: Path
    work: Path
    asked: Asked
    needs: Needs = field(default_factory=Needs)
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    on_spent: Callable[[Spent], None] = lambda spent: None  # each attempt's bill; perhaps the same again
    # asked when all is ready for an attempt that costs anew, never for one that goes on; raises to refuse it
    may_begin: Callable[[], None] = lambda: None
    # entered while it runs, with whether it went on before; waits for what it needs
    admitted: Callable[[bool], AbstractContextManager[None]] = lambda goes: nullcontext()

    @property
    def out(self) -> Path:
        return self.work / "out"


class Jobs(ABC):
    """Runs a recipe to its end. Raises what that end means (llmops_core/job_outcomes.py): InputError when the recipe
    blames its input, TransientError for a crash."""

    @abstractmethod
    def run(self, job: Job, context: AssetExecutionContext, on_progress: Callable[[Progress], None]) -> None:
        """Returns when `job.out` is there. Shows the recipe's words and progress in the run, and calls `on_progress`,
        perhaps from another thread, as it reports."""

    def going(self) -> list[GoingJob]:
        """Jobs that may outlive their run; none where they end with it."""
        return []

    def end(self, job: GoingJob, why: str, on_bill: Callable[[Bill], None] = lambda bill: None) -> bool:
        """Ends a job that nobody waits for, if it is still as it was read; False otherwise. What it used is told."""
        return False

    def ended(self) -> list[GoingJob]:
        """Jobs that have ended and are there to be looked at, whether anybody wrote down how they ended or not."""
        return []

    def bill(self, job: GoingJob) -> Bill | None:
        """What a job that has ended used; None where that is not known any more."""
        return None

    def forget(self, job: GoingJob) -> bool:
        """Removes what is left of a job that has ended and was billed; False where something else does."""
        return False

    def running(self) -> list[Bill]:
        """What the jobs that run now have used so far."""
        return []


class LocalJobs(Jobs):
    """Child processes of the run's own process; they end with it."""

    def run(self, job: Job, context: AssetExecutionContext, on_progress: Callable[[Progress], None]) -> None:
        job.work.mkdir(parents=True, exist_ok=True)
        log = job.work / f"{job.recipe}.log"

        def tell(progress: Progress) -> None:
            context.log.info(progress_line(job.recipe, progress))
            on_progress(progress)

        reader = _ProgressReader(str(job.work / f"{job.recipe}.messages"), tell)
        with job.admitted(False):
            job.may_begin()
            code = _ended(job, context, reader, log)
        if code != 0:
            said = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
            error = failure(job.recipe, end_by_code(SIGNALS_FROM - code if code < 0 else code, said))
            assert error is not None  # noqa: S101 -- no program that ended badly is done
            raise error


def progress_of(payload: Any) -> Progress | None:
    """What a custom message reports, figures only; None for one that is no report. A recipe's author writes them."""
    told = payload.get("progress") if isinstance(payload, dict) else None
    if not isinstance(told, dict):
        return None
    figures = figures_of(told)
    return figures if {"done", "total"} <= figures.keys() else None


def figures_of(told: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in told.items() if isinstance(value, int | float)}


def progress_line(recipe: str, progress: Progress) -> str:
    """`finetune 120/300, loss 0.31, 24 s left`, whatever figures the recipe reports."""
    known = ("done", "total", "seconds_left")
    figures = [f"{name} {value:.3g}" for name, value in progress.items() if name not in known]
    left = progress.get("seconds_left")
    parts = [f"{recipe} {progress['done']}/{progress['total']}", *figures]
    return ", ".join([*parts, *([f"{left:.0f} s left"] if left is not None else [])])


def failure(recipe: str, end: End, where: str = "") -> LlmopsError | None:
    """What is raised for an end, so that it says who acts; None where the door itself goes on."""
    action, sentence = ACTIONS[end.outcome], f"{recipe}{where}: {end.outcome.value}: {end.reason}"
    if action == "fix_input":
        return InputError(Problem(f"recipes/{recipe}.py", "", "input it cannot use", "see the message", end.reason))
    if action == "fix_environment":
        return EnvironmentLacks(sentence)
    if action == "stop":
        return IntegrityError(sentence)
    if action == "retry":
        words = f"; its last words:\n{end.last_words[-TAIL_BYTES:]}" if end.last_words else ""
        return TransientError(sentence + words)
    return None


def _command(job: Job) -> list[str]:
    written = job.work / f"{job.recipe}.json"
    written.write_text(json.dumps(job.config, indent=1), encoding="utf-8")
    inputs = [word for name, folder in job.inputs.items() for word in (f"--{name}", str(folder))]
    command = [sys.executable, "-m", f"recipes.{job.recipe}", "--config", str(written)]
    return [*command, *inputs, "--out", str(job.out)]


def _ended(job: Job, context: AssetExecutionContext, reader: PipesMessageReader, log: Path) -> int:
    """Runs the program; its exit code."""
    with (
        open_pipes_session(context, PipesTempFileContextInjector(), reader) as session,
        log.open("ab") as output,
    ):
        environment = {**os.environ, **job.environment, **session.get_bootstrap_env_vars()}
        environment["PYTHONPATH"] = str(job.code)
        return _wait(started(_command(job), job.code, environment, output))


def started(
    command: list[str], folder: Path, environment: Mapping[str, str], output: IO[bytes]
) -> "subprocess.Popen[bytes]":
    """A child that is asked to end when this process is no more, however that came: nobody else would end it. Only
    Linux knows how; elsewhere it outlives a process that is killed. It hears when it is asked, though this process may
    ignore that, which children take over."""
    me, ask = os.getpid(), getattr(ctypes.CDLL(None), "prctl", None)

    def with_me() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if ask is not None:
            ask(ASKED_WITH_PARENT, signal.SIGTERM)
            if os.getppid() != me:  # it died before it was asked for
                os._exit(SIGNALS_FROM + signal.SIGTERM)

    return subprocess.Popen(
        command, cwd=folder, env=dict(environment), stdout=output, stderr=output, preexec_fn=with_me
    )


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
        progress = progress_of((message.get("params") or {}).get("payload"))
        if message["method"] == "report_custom_message" and progress is not None:
            self._on_progress(progress)
            return
        self._handler.handle_message(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)
