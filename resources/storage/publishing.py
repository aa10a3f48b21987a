"""Files that other programs read while we write them: published whole by rename, changed by one process at a time."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from resources.storage.disk import disk_full, sync_file, sync_folder


def publish_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` in one step: a reader, or a kill between any two lines, sees the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        sync_file(draft)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        if disk_full(error):
            raise EnvironmentLacks(f"{path} cannot be written, the disk is full: free some space and repeat") from error
        raise


def publish_json(path: Path, document: Any, mode: int = 0o644) -> None:
    publish_text(path, json.dumps(document, sort_keys=True) + "\n", mode)


def read_json(path: Path) -> Any | None:
    """The document, or None if there is no such file. Raises IntegrityError for what is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise IntegrityError(f"{path} is not the JSON that was written there: {error}") from error


@contextmanager
def exclusive(path: Path, timeout_seconds: float = 120.0) -> Iterator[int]:
    """Hold a lock that the kernel takes back when its holder dies. Raises TransientError when another keeps it.

    Yields the lock's descriptor: a program that inherits it holds the lock too, also when its parent has died.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with path.open("a") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise TransientError(f"another process has held {path} for {timeout_seconds:.0f} s") from error
                time.sleep(0.02)
        yield stream.fileno()
