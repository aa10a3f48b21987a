"""A process keeper in memory: programs are alive from `put` to `remove`, and forget their process ids on `stop`."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

from llmops_core.errors import TransientError
from resources.host.processes import Processes, Program, ProgramState


class FakeProcesses(Processes):
    def __init__(self) -> None:
        self.kept: dict[str, Program] = {}
        self.alive: dict[str, int] = {}
        self.ended: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self._up = False
        self._pids = itertools.count(1000)

    def start(self, first: Callable[[], None] = lambda: None) -> None:
        if not self._up:
            first()
            self._up = True
            self.alive = {name: next(self._pids) for name in self.kept}

    def stop(self) -> None:
        self._up = False
        self.alive.clear()

    def forget(self) -> None:
        self.kept.clear()
        self.alive.clear()

    def put(self, program: Program) -> None:
        self._refuse_when_down()
        if self.kept.get(program.name) != program or program.name not in self.alive:
            self.alive[program.name] = next(self._pids)
            self.ended.pop(program.name, None)
        self.kept[program.name] = program

    def remove(self, name: str) -> None:
        self._refuse_when_down()
        self.kept.pop(name, None)
        self.alive.pop(name, None)

    def programs(self) -> list[ProgramState]:
        self._refuse_when_down()
        return [self._state(name) for name in sorted(self.kept)]

    def log_tail(self, name: str, lines: int = 20) -> str:
        return "\n".join(self.logs.get(name, "").splitlines()[-lines:])

    def crash(self, name: str, trouble: str) -> None:
        """For tests: the program ended and does not come back."""
        self.alive.pop(name)
        self.ended[name] = trouble

    def _state(self, name: str) -> ProgramState:
        pid = self.alive.get(name)
        state = "RUNNING" if pid is not None else "FATAL"
        return ProgramState(name, state, pid, datetime.now(UTC), self.ended.get(name, ""))

    def _refuse_when_down(self) -> None:
        if not self._up:
            raise TransientError("the process keeper does not run")
