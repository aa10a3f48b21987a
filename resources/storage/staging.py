"""Folders that are filled in private and appear whole, whoever dies when.

A publisher fills a folder under `.incoming` beside the target, holding a lock that the kernel drops when it dies, and
then renames the folder to its name. Whoever stages next in the same place sweeps away what dead publishers left.
"""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from resources.storage.disk import sync_folder

INCOMING = ".incoming"


@contextmanager
def staged(beside: Path) -> Iterator[Path]:
    """A new empty folder on the file system of `beside` (a folder, made if need be); gone afterwards unless renamed."""
    incoming = beside / INCOMING
    _sweep(incoming)
    lock, held = _own_lock(incoming)
    folder = lock.with_suffix("")
    with held:
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
            with suppress(OSError):  # others are staging
                incoming.rmdir()


def publish(folder: Path, target: Path) -> None:
    """Give a staged folder its name. Raises OSError when the name is taken: then another was first."""
    sync_folder(folder)
    folder.rename(target)
    sync_folder(target.parent)


def _own_lock(incoming: Path) -> tuple[Path, BinaryIO]:
    """A new locked file. Until it is locked a sweeper may take it for a dead one's: then make another."""
    while True:
        incoming.mkdir(parents=True, exist_ok=True)
        lock = incoming / f"{uuid.uuid4().hex}.lock"
        try:
            held = lock.open("xb")
        except FileNotFoundError:  # the last publisher before removed the empty folder
            continue
        fcntl.flock(held, fcntl.LOCK_EX)
        if lock.exists():
            return lock, held
        held.close()


def _sweep(incoming: Path) -> None:
    for lock in incoming.glob("*.lock"):
        try:
            with lock.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()
        except (BlockingIOError, FileNotFoundError):  # alive, or swept by another
            continue
