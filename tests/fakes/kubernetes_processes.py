"""Containers as processes of this machine: for tests of what runs in a pod.

A process sees no mounts of its own, so a path below a mount stands for the folder of its volume: such paths in command,
arguments, environment and working directory are replaced. Not replaced are paths that the program itself makes up. The
memory limit is kept by looking: a process tree that holds more is killed as the kernel would (137, OOMKilled). Unlike
in a pod, where a program without a handler ignores SIGTERM as process 1, the signal ends it. Init containers run first,
one after the other, and the whole stand-in waits for them.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.fakes import kubernetes_environment as environments
from tests.fakes.kubernetes_kinds import CONFIG_MAPS, SECRETS
from tests.fakes.kubernetes_pod_validation import quantity
from tests.fakes.kubernetes_store import Json, Store

LOOK_SECONDS = 0.05


class ContainerProcess:
    """`on_line` for each line it prints, `on_end` once with exit code and reason."""

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        folder: Path,
        limit_bytes: float | None,
        on_line: Callable[[str], None],
        on_end: Callable[[int, str], None],
    ) -> None:
        self._on_line, self._on_end, self._limit = on_line, on_end, limit_bytes
        self._reason = ""
        self.process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # a container inherits nothing of whoever runs its node, such as signals that are ignored
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )
        self._thread = threading.Thread(target=self._attend, daemon=True)
        self._thread.start()
        threading.Thread(target=self._clear, daemon=True).start()
        if limit_bytes:
            threading.Thread(target=self._guard, daemon=True).start()

    def stop(self, grace_seconds: float) -> None:
        """Asks, and ends it after the grace; returns at once."""
        self._signal(signal.SIGTERM)
        timer = threading.Timer(grace_seconds, self._signal, (signal.SIGKILL,))
        timer.daemon = True
        timer.start()

    def kill(self, reason: str = "") -> None:
        self._reason = reason
        self._signal(signal.SIGKILL)

    def wait(self) -> None:
        self._thread.join()

    def _signal(self, number: int) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError):  # it ended between the two
                os.killpg(self.process.pid, number)

    def _attend(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._on_line(line.decode(errors="replace").rstrip("\n"))
        code = self.process.wait()
        self._on_end(128 - code if code < 0 else code, self._reason)

    def _clear(self) -> None:
        """The container ends with its first process, whatever that has left behind."""
        self.process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _guard(self) -> None:
        while self.process.poll() is None:
            try:
                first = psutil.Process(self.process.pid)
                held = sum(one.memory_info().rss for one in [first, *first.children(recursive=True)])
            except psutil.Error:
                return
            if self._limit and held > self._limit:
                self.kill("OOMKilled")
                return
            time.sleep(LOOK_SECONDS)


def volumes_of(pod: Json, room: Path, store: Store) -> dict[str, Path]:
    """A folder for each volume, with the content of secrets and config maps in it."""
    folders = {}
    for volume in pod["spec"].get("volumes") or []:
        folder = room / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        for field, kind, name in (("secret", SECRETS, "secretName"), ("configMap", CONFIG_MAPS, "name")):
            if field in volume:
                found = store.get(kind, (pod["metadata"]["namespace"], volume[field][name]))
                if found is None and not volume[field].get("optional"):
                    raise environments.NotCreated(f'{kind.plural[:-1]} "{volume[field][name]}" not found')
                for key, text in environments.content_of(kind, found or {}).items():
                    (folder / key).write_text(text)
        folders[volume["name"]] = folder
    return folders


def start(
    pod: Json,
    container: Json,
    store: Store,
    room: Path,
    image_environment: Mapping[str, str],
    on_line: Callable[[str], None],
    on_end: Callable[[int, str], None],
) -> ContainerProcess:
    """Raises NotCreated as the kubelet would, for what it cannot resolve."""
    variables = {**image_environment, **environments.environment_of(pod, container, store)}
    folders = volumes_of(pod, room, store)
    mounts = {mount["mountPath"]: folders[mount["name"]] for mount in container.get("volumeMounts") or []}
    variables = {name: _moved(value, mounts) for name, value in variables.items()}
    command = [_moved(word, mounts) for word in environments.command_of(container, variables)]
    folder = Path(_moved(container.get("workingDir") or str(room), mounts))
    folder.mkdir(parents=True, exist_ok=True)
    limit = (container.get("resources", {}).get("limits") or {}).get("memory")
    return ContainerProcess(command, variables, folder, float(quantity(limit)) if limit else None, on_line, on_end)


def run_through(
    pod: Json, container: Json, store: Store, room: Path, image_environment: Mapping[str, str]
) -> tuple[list[str], int]:
    """Runs an init container to its end: (what it printed, its exit code). One that cannot be started ends with 128."""
    words: list[str] = []
    try:
        made = start(pod, container, store, room, image_environment, words.append, lambda *_: None)
    except OSError as error:
        return [str(error)], 128
    made.wait()
    code = made.process.returncode
    return words, 128 - code if code < 0 else code


def _moved(text: str, mounts: Mapping[str, Path]) -> str:
    for path, folder in sorted(mounts.items(), key=lambda mount: -len(mount[0])):
        if text == path or text.startswith(f"{path.rstrip('/')}/"):
            return str(folder) + text[len(path.rstrip("/")) :]
    return text
