"""What this machine has to give: programs, disk, ports, and places to write."""

import os
import shutil
import socket
from pathlib import Path

from resources.home import HOST


def lacking_programs(*names: str) -> list[str]:
    return [name for name in names if shutil.which(name) is None]


def free_bytes(place: Path) -> int:
    """Of the disk that `place` is on, or would be."""
    return shutil.disk_usage(_existing(place)).free


def may_write(place: Path) -> bool:
    """Whether files could be made in `place`, or the folder itself."""
    found = _existing(place)
    return found.is_dir() and os.access(found, os.W_OK | os.X_OK)


def is_free(port: int) -> bool:
    """Whether a server could listen there; ports that a closed connection still holds are free to it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _existing(place: Path) -> Path:
    return next(each for each in (place, *place.parents) if each.exists())
