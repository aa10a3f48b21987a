"""Files that are whole at every moment, and locks that die with their holder."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from resources.storage.publishing import exclusive, publish_json, publish_text, read_json


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    publish_json(file, ["0" * 50_000])
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            publish_json(file, [str(number % 10) * 50_000])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            [text] = read_json(file)
            assert len(text) == 50_000 and len(set(text)) == 1
    finally:
        stop.set()
        writer.join()


def test_a_full_disk_keeps_the_old_file_and_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "document.json"
    publish_json(file, "old")

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("resources.storage.publishing.sync_file", full)
    with pytest.raises(EnvironmentLacks, match="free some space"):
        publish_json(file, "new")
    assert read_json(file) == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["document.json"]


def test_other_troubles_with_the_disk_are_not_called_a_full_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        publish_text(tmp_path / "folder", "text")


def test_a_secret_file_is_its_owners_alone_from_the_first_byte(tmp_path: Path) -> None:
    publish_text(tmp_path / "secret", "x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_no_file_is_none_and_damage_is_an_error(tmp_path: Path) -> None:
    assert read_json(tmp_path / "missing.json") is None
    (tmp_path / "half.json").write_text('{"a":')
    with pytest.raises(IntegrityError, match=r"half\.json"):
        read_json(tmp_path / "half.json")


def test_a_lock_that_is_held_ends_in_a_transient_error(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    refused = pytest.raises(TransientError, match="another process")
    with exclusive(lock), refused, exclusive(lock, timeout_seconds=0.1):
        pytest.fail("two holders")


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from resources.storage.publishing import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    begun = time.monotonic()
    with exclusive(tmp_path / "lock", timeout_seconds=5):
        assert time.monotonic() - begun < 1
