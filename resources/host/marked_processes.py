"""Processes found again by a mark in their environment, which all their descendants inherit."""

import os
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from llmops_core.errors import IntegrityError

MARK = "LLMOPS_SUPERVISED"
KIND_LIMIT_SECONDS = 5.0
FORCE_LIMIT_SECONDS = 5.0


class MarkedProcesses:
    """Processes of this user whose environment says MARK=`mark`. A keeper among them has `keeper` in its command."""

    def __init__(self, mark: str, keeper: str) -> None:
        self._mark = mark
        self._keeper = keeper

    def all(self) -> list[psutil.Process]:
        """Except this process and those it descends from: whoever looks does not end itself."""
        own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                mine = process.uids().real == os.getuid() and process.pid not in own
                if mine and process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def keepers(self) -> list[psutil.Process]:
        return [process for process in self.all() if self._keeper in _command_of(process)]

    def end(self) -> None:
        """First a keeper, so that it starts nothing again; the rest is asked, then killed. Raises IntegrityError if
        some process cannot be ended."""
        for process in self.keepers():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.all():
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        if _gone(self.all, KIND_LIMIT_SECONDS):
            return
        for process in self.all():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not _gone(self.all, FORCE_LIMIT_SECONDS):
            raise IntegrityError(f"processes of this home cannot be ended: {[process.pid for process in self.all()]}")


def has_mark(process: psutil.Process, mark: str) -> bool:
    """Whether it is one of those; what cannot be looked into is none."""
    try:
        return process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def listening_at(port: int) -> psutil.Process | None:
    """Who listens at a TCP port of this machine; None where nobody does, or another user's program may not be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            at = connection.laddr[1] if connection.laddr else None
            if connection.status == psutil.CONN_LISTEN and at == port and connection.pid:
                return psutil.Process(connection.pid)
    except psutil.Error:
        return None
    return None


def _gone(find: Callable[[], list[psutil.Process]], limit_seconds: float) -> bool:
    deadline = time.monotonic() + limit_seconds
    while find():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
