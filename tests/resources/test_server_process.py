"""Whether a program is the one that serves, and of which file: by what the operating system says, not by names."""

import mmap
import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from resources.serving.server_process import family, holds_port, opened

SELF = psutil.Process()
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is mapped")


def test_another_program_s_port_was_taken_for_its_own() -> None:
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        port = mine.getsockname()[1]
        assert not holds_port(SELF, port)
        mine.listen()
        assert holds_port(SELF, port) and not holds_port(SELF, port + 1)


def test_a_program_that_ended_had_a_family() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert family(pid) == [] and family(os.getpid())[0] == SELF


@linux
def test_a_file_that_was_put_there_later_passed_for_the_one_that_is_served(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" * 2000)
    assert opened(SELF, path) is None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert opened(SELF, path) is True
        other = tmp_path / "other"
        other.write_bytes(b"GGUF" * 2000)
        other.rename(path)
        assert opened(SELF, path) is False
        path.unlink()
        assert opened(SELF, path) is False
