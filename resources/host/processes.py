"""The process keeper: programs that must outlive the command that started them, and come back when they die.

What should run is a set of files; supervisord is made to agree with them. Every operation writes its file first and
then reconciles, so that a kill between any two lines is mended by the next call. supervisord itself may be killed too:
its children live on without a parent, holding their ports. Each of them therefore carries the mark of its home in its
environment, and whoever starts the keeper again first ends what still carries it.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, Problem, TransientError
from llmops_core.fingerprint import digest_of
from resources.host.marked_processes import MARK, MarkedProcesses
from resources.host.supervisor_config import daemon_text, home_mark, program_text, refuse_unreadable, socket_path
from resources.host.supervisor_rpc import (
    ALREADY_ADDED,
    ALREADY_STARTED,
    BAD_NAME,
    NOT_RUNNING,
    STILL_RUNNING,
    Fault,
    call,
)
from resources.storage.publishing import exclusive, publish_json, publish_text

START_LIMIT_SECONDS = 15.0
ENDED = ("STOPPED", "EXITED", "FATAL")
_PROGRAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class Program:
    """A command that shall run until it is removed. Secrets belong into `environment`, never into `command`."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=lambda: {})
    autorestart: bool = True
    stop_wait_seconds: int = 10

    def __post_init__(self) -> None:
        if not _PROGRAM_NAME.fullmatch(self.name):
            expected = "letters, digits, dots, hyphens and underscores, at most 200"
            raise InputError(Problem("program", "name", self.name, expected, "no such program can be kept"))


@dataclass(frozen=True)
class ProgramState:
    """`state` is STARTING, RUNNING, BACKOFF, STOPPING, STOPPED, EXITED or FATAL; `since` is when it entered it."""

    name: str
    state: str
    pid: int | None
    since: datetime | None
    trouble: str

    @property
    def alive(self) -> bool:
        return self.pid is not None


class Processes(ABC):
    """Keeps programs running on this machine."""

    @abstractmethod
    def start(self, first: Callable[[], None] = lambda: None) -> None:
        """Make the keeper run, with every program that was put and not removed. Does nothing when it does already.

        `first` is called before the keeper begins, when no program of it runs any more; if it raises, none begins.
        """

    @abstractmethod
    def stop(self) -> None:
        """End all programs and the keeper, and return when nothing of them is left. What was put is not forgotten."""

    @abstractmethod
    def forget(self) -> None:
        """End and forget every program that was put."""

    @abstractmethod
    def put(self, program: Program) -> None:
        """Make this program run, in exactly this form: a running equal one is left alone, another is replaced."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """End the program and forget it. Does nothing when there is none."""

    @abstractmethod
    def programs(self) -> list[ProgramState]:
        """Every program, sorted by name. Raises TransientError when the keeper does not run."""

    @abstractmethod
    def log_tail(self, name: str, lines: int = 20) -> str:
        """The last lines that the program wrote; empty when it wrote none."""

    def state_of(self, name: str) -> ProgramState | None:
        return next((state for state in self.programs() if state.name == name), None)


class SupervisorProcesses(Processes):
    """supervisord, daemonised, with one file for each program under home/supervisor/programs."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._folder = self._home / "supervisor"
        self._socket = socket_path(self._home)
        self._mark = home_mark(self._home)
        self._kin = MarkedProcesses(self._mark, "supervisor.supervisord")

    def start(self, first: Callable[[], None] = lambda: None) -> None:
        refuse_unreadable(self._home, "LLMOPS_HOME")
        with self._lock():
            if self._answers():
                self._reconcile()
                return
            if os.environ.get(MARK) == self._mark:
                raise TransientError("the process keeper is gone and only someone outside of it can start it: make run")
            self._kin.end()
            first()
            for folder in (self._folder / "programs", self._home / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
            self._make_socket_folder()
            publish_text(self._folder / "supervisord.conf", daemon_text(self._home))
            self._daemonise()

    def stop(self) -> None:
        with self._lock():
            if self._answers():
                with suppress(TransientError):  # it may be gone before it has answered
                    call(self._socket, "shutdown")
                self._wait_for_shutdown()
            self._kin.end()
            self._socket.unlink(missing_ok=True)
            if self._socket.parent != self._folder:
                with suppress(OSError):  # it may be gone already, or hold what is not ours
                    self._socket.parent.rmdir()

    def forget(self) -> None:
        with self._lock():
            if (folder := self._folder / "programs").exists():
                shutil.rmtree(folder)
            if self._answers():
                self._reconcile()

    def put(self, program: Program) -> None:
        document = {
            "command": list(program.command),
            "directory": str(program.directory),
            "environment": dict(program.environment),
        }
        specification = self._folder / "programs" / f"{program.name}.json"
        launcher = Path(__file__).with_name("launch.py")
        refuse_unreadable(Path(sys.executable), "the Python program")
        refuse_unreadable(launcher, "the repository")
        text = program_text(
            self._home,
            program.name,
            [sys.executable, "-I", "-S", str(launcher), str(specification)],
            digest_of(document),
            autorestart=program.autorestart,
            stop_wait_seconds=program.stop_wait_seconds,
        )
        with self._lock():
            publish_json(specification, document, mode=0o600)
            publish_text(specification.with_suffix(".ini"), text)
            self._reconcile()
            state = self.state_of(program.name)
            if state is None:
                raise IntegrityError(f"supervisord does not know {program.name} although its file is there")
            if state.state in ENDED:
                self._tolerating(ALREADY_STARTED, "startProcess", program.name, False)

    def remove(self, name: str) -> None:
        specification = self._folder / "programs" / f"{name}.json"
        with self._lock():
            specification.with_suffix(".ini").unlink(missing_ok=True)
            self._reconcile()
            specification.unlink(missing_ok=True)

    def programs(self) -> list[ProgramState]:
        return sorted((_state(info) for info in call(self._socket, "getAllProcessInfo")), key=lambda state: state.name)

    def log_tail(self, name: str, lines: int = 20) -> str:
        try:
            with (self._home / "logs" / f"{name}.log").open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - 64_000))
                return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _lock(self) -> AbstractContextManager[int]:
        return exclusive(self._folder / "lock")

    def _answers(self) -> bool:
        try:
            identity = call(self._socket, "getIdentification")
        except TransientError:
            return False
        if identity != self._mark:
            raise IntegrityError(f"{self._socket} belongs to another process keeper ({identity})")
        return True

    def _reconcile(self) -> None:
        """Make supervisord's programs those of the files. Safe to repeat from any half-way state."""
        try:
            [[added, changed, removed]] = call(self._socket, "reloadConfig")
        except Fault as fault:
            raise IntegrityError(f"supervisord refuses its configuration: {fault}") from fault
        for name in (*removed, *changed):
            self._end_group(name)
        for name in (*changed, *added):
            self._tolerating(ALREADY_ADDED, "addProcessGroup", name)

    def _wait_for_shutdown(self) -> None:
        """supervisord looks after ending children once a second, and whenever it is asked something: keep asking."""
        deadline = time.monotonic() + self._longest_stop_seconds() + 5.0
        while self._kin.keepers() and time.monotonic() < deadline:
            with suppress(TransientError):
                call(self._socket, "getState")
            time.sleep(0.05)

    def _end_group(self, name: str) -> None:
        self._tolerating(BAD_NAME, "stopProcessGroup", name, False)
        deadline = time.monotonic() + self._longest_stop_seconds() + 10.0
        while time.monotonic() < deadline:  # asking again also makes supervisord look, see _wait_for_shutdown
            try:
                call(self._socket, "removeProcessGroup", name)
                return
            except Fault as fault:
                if fault.code == BAD_NAME:
                    return
                if fault.code != STILL_RUNNING:
                    raise IntegrityError(f"supervisord does not let go of {name}: {fault}") from fault
            time.sleep(0.02)
        raise TransientError(f"{name} does not end")

    def _tolerating(self, accepted: int, method: str, *arguments: object) -> None:
        try:
            call(self._socket, method, *arguments)
        except Fault as fault:
            if fault.code not in (accepted, NOT_RUNNING):
                raise IntegrityError(f"supervisord refuses {method} of {arguments[0]}: {fault}") from fault

    def _longest_stop_seconds(self) -> float:
        texts = (file.read_text() for file in (self._folder / "programs").glob("*.ini"))
        return max(
            (float(wait) for text in texts for wait in re.findall(r"^stopwaitsecs=(\d+)$", text, re.M)), default=10
        )

    def _make_socket_folder(self) -> None:
        folder = self._socket.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder != self._folder and (folder.is_symlink() or folder.stat().st_uid != os.geteuid()):
            raise EnvironmentLacks(f"{folder} belongs to someone else: remove it, or choose a shorter LLMOPS_HOME")
        self._socket.unlink(missing_ok=True)

    def _daemonise(self) -> None:
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._folder / "supervisord.conf")]
        begun = subprocess.run(
            command,
            cwd=self._folder,
            env={**os.environ, MARK: self._mark},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_LIMIT_SECONDS,
            check=False,
        )
        if begun.returncode != 0:
            raise EnvironmentLacks(f"supervisord cannot start: {(begun.stderr or begun.stdout).strip()}")
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                log = self.log_tail("supervisord")
                raise EnvironmentLacks(f"supervisord does not answer after {START_LIMIT_SECONDS:.0f} s:\n{log}")
            time.sleep(0.02)


def _state(info: dict[str, object]) -> ProgramState:
    alive = info["pid"] != 0
    moment = info["start"] if alive else info["stop"] or info["start"]
    return ProgramState(
        name=str(info["name"]),
        state=str(info["statename"]),
        pid=int(str(info["pid"])) if alive else None,
        since=datetime.fromtimestamp(float(str(moment)), UTC) if moment else None,
        trouble=str(info["spawnerr"] or ("" if alive else info["description"])),
    )
