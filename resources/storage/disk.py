"""Small facts about writing to disk that every door which publishes folders needs."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_core.errors import EnvironmentLacks


def disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def told_when_full(root: Path, doing: str) -> Iterator[None]:
    """Raises EnvironmentLacks for a disk that became full; what is written within must clean up after itself."""
    try:
        yield
    except OSError as error:
        if not disk_full(error):
            raise
        free = shutil.disk_usage(root).free
        message = f"no space left to {doing} under {root} ({free} bytes free); nothing else was touched"
        raise EnvironmentLacks(f"{message}: free some space and run again") from error


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk, so that a rename after it cannot survive a power cut that they did not."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Force a folder's names to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
