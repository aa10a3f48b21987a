"""What the operating system says of a program that serves: whether it holds its port, and which bytes it has open.

A file of the right name proves nothing about a program that opened another one before, nor an answer on a port about
who gave it.
"""

import sys
from pathlib import Path

import psutil


def family(pid: int) -> list[psutil.Process]:
    """The program and all that it started; none of it where it has ended."""
    try:
        program = psutil.Process(pid)
        return [program, *program.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def holds_port(process: psutil.Process, port: int) -> bool:
    """Whether the process itself listens on this TCP port."""
    try:
        found = process.net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)


def opened(process: psutil.Process, path: Path) -> bool | None:
    """True if the process has the file mapped that stands at `path` now, False if one that stood there before, None if
    none: it was read and closed, or the system does not tell (only Linux does)."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        lines = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    fields = [line.split(maxsplit=5) for line in lines]
    mapped = {int(parts[4]): parts[5] for parts in fields if len(parts) == 6}
    here = str(path.resolve())
    inodes = {inode for inode, name in mapped.items() if name.removesuffix(" (deleted)") == here}
    if not inodes:
        return None
    return path.exists() and inodes == {path.stat().st_ino}
