"""What a recipe says leaves its pod whole, in order and once, whatever the store does; figures of GPUs too."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.jobs.gpu_figures import parsed
from resources.jobs.job_relay import PIECE_BYTES, Relay
from resources.jobs.job_transport import JobStore
from tests.fakes.memory_s3 import STORES, MemoryPlace, MemoryS3

FINGERPRINT, POD = "f" * 64, "pod"
TALKS = (
    "import sys, time\nfor n in range(40): print('line', n, flush=True); time.sleep(0.005)\nsys.stdout.write('torn')"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    MemoryS3(tmp_path.name)
    yield JobStore(MemoryPlace("f", "f", "s3://bucket/jobs", tmp_path.name), tmp_path / "cache")


def relayed(store: JobStore, messages: Path, outage: bool) -> Relay:
    memory = STORES[str(store.place.endpoint)]
    with Relay(store, store.job(FINGERPRINT), 1, POD, messages, 0.01) as relay:
        process = subprocess.Popen([sys.executable, "-c", TALKS], stdout=subprocess.PIPE)
        for number in range(20):
            memory.down = outage and number % 4 in (1, 2)
            with messages.open("a") as stream:
                stream.write(json.dumps({"method": "log", "params": {"message": str(number)}}) + "\n")
            time.sleep(0.005)
        memory.down = False
        relay.listen_to(process)
        process.wait()
    return relay


@pytest.mark.parametrize("outage", [False, True])
def test_a_word_was_lost_doubled_or_out_of_order(
    store: JobStore, tmp_path: Path, outage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.storage.s3_folder.FIRST_PAUSE_SECONDS", 0.001)
    relay = relayed(store, tmp_path / "messages", outage)
    records = store.job(FINGERPRINT)
    pieces = iter(lambda: records.log(1, POD, next(numbers)), None)
    numbers = iter(range(1, 1000))
    printed = b"".join(pieces).decode()
    assert printed == "".join(f"line {n}\n" for n in range(40)) + "torn" and relay.last_words.endswith("torn")
    heard: list[str] = []
    for index in range(1, 1000):
        piece = store.read(f"jobs/{FINGERPRINT}/pods/1/{POD}/messages/{index}.json")
        if piece is None:
            break
        heard += [json.loads(line)["params"]["message"] for line in piece.decode().splitlines()]
    assert heard == [str(number) for number in range(20)]


def test_bytes_that_are_no_text_ended_the_program_in_the_pod(store: JobStore, tmp_path: Path) -> None:
    """And with it a recipe that had done its work."""
    (tmp_path / "messages").write_bytes(b"\xff\xfe torn by a process that died\nnext\n")
    with Relay(store, store.job(FINGERPRINT), 1, POD, tmp_path / "messages", 0.01):
        pass
    piece = store.job(FINGERPRINT).messages(1, POD, 1) or b""
    assert piece.decode().splitlines()[1] == "next"


def test_an_hour_of_messages_became_one_piece(store: JobStore, tmp_path: Path) -> None:
    lines = [f"{number} ".ljust(1000, "x") for number in range(200)]
    lines[100] = "100 ".ljust(3 * PIECE_BYTES, "x")
    (tmp_path / "messages").write_text("".join(f"{line}\n" for line in lines))
    with Relay(store, store.job(FINGERPRINT), 1, POD, tmp_path / "messages", 0.01):
        pass
    pieces = [store.job(FINGERPRINT).messages(1, POD, index) for index in range(1, 20)]
    told = [piece for piece in pieces if piece is not None]
    assert b"\n".join(told).decode().split("\n") == lines
    assert len(told) >= 4 and all(len(piece) <= PIECE_BYTES for piece in told if not piece.startswith(b"100 "))


def test_an_outage_of_the_store_filled_the_memory_of_the_pod(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is missing then must be told."""
    monkeypatch.setattr("resources.storage.s3_folder.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("resources.jobs.job_relay.UNSENT_BYTES", 200_000)
    memory = STORES[str(store.place.endpoint)]
    memory.down = True
    with Relay(store, store.job(FINGERPRINT), 1, POD, tmp_path / "messages", 0.01) as relay:
        talks = "for n in range(100_000): print(n, 'x' * 30)"
        process = subprocess.Popen([sys.executable, "-c", talks], stdout=subprocess.PIPE)
        relay.listen_to(process)
        process.wait()
        assert len(relay._output) <= 200_000
        memory.down = False
    pieces = [store.job(FINGERPRINT).log(1, POD, index) or b"" for index in range(1, 20)]
    lines = b"".join(pieces).decode().splitlines()
    (told,) = (line for line in lines if line.startswith("("))
    lines.remove(told)
    missing = int(told.removeprefix("(").partition(" bytes are missing")[0])
    whole = sum(len(f"{n} {'x' * 30}\n") for n in range(100_000))
    assert missing + sum(len(line) + 1 for line in lines) == whole and lines[-1].startswith("99999 ")


def test_figures_of_gpus_were_added_up_wrongly() -> None:
    figures = parsed("90, 1000, 80000, 300.5\n70, 3000, 80000, [N/A]\n")
    assert figures == {"gpu_percent": 80, "gpu_memory_mib": 4000, "gpu_memory_total_mib": 160000, "gpu_watts": 300.5}
    assert parsed("") == {}
