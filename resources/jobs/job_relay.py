"""Carries what a recipe says from its pod to the object store while it runs: Pipes messages, and all that it prints.

Both go in numbered pieces, and a piece whose sending failed is sent again with the very same bytes: a reader that has
seen a piece has seen all of it. Messages are pieces as Dagster's S3 reader knows them. Output also goes to this
program's own, at once, so that `kubectl logs` shows it and the kubelet keeps its end.
"""

import json
import os
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from typing import Any

from dagster_pipes import PIPES_PROTOCOL_VERSION, PIPES_PROTOCOL_VERSION_FIELD, PipesS3MessageWriterChannel

from llmops_core.errors import LlmopsError
from resources.jobs.gpu_figures import gpu_figures
from resources.jobs.job_transport import JobRecords, JobStore

PIECE_BYTES = 60_000  # a piece of output becomes one event of the run
UNSENT_BYTES = 64_000_000
LAST_WORDS_BYTES = 4000
GPU_EVERY = 6  # reports


class Relay:
    """`with Relay(…) as relay: relay.listen_to(process)`. On leaving, everything is sent or was tried to be."""

    def __init__(
        self, store: JobStore, records: JobRecords, attempt: int, pod: str, messages: Path, seconds: float
    ) -> None:
        prefix = f"{records.pod_prefix(attempt, pod)}/messages"
        self._store, self._records, self._attempt, self._pod = store, records, attempt, pod
        self._channel = PipesS3MessageWriterChannel(store.client, store.bucket, prefix)
        self._file, self._seconds = messages, seconds
        self._read_bytes, self._rounds = 0, 0
        self._output, self._forgotten, self._lock = bytearray(), 0, threading.Lock()
        self._waiting: dict[str, bytes] = {}  # by kind: the piece that is being sent
        self._sent = {"messages": 0, "log": 0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="relay", daemon=True)
        self.last_words = ""

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()
        for _ in range(5):
            if self._round():
                return
            self._ended.wait(self._seconds)
        sys.stderr.write("the last messages could not be sent\n")

    def listen_to(self, process: "subprocess.Popen[bytes]") -> None:
        """Returns when nobody can write to the process's output any more, or when all was sent."""
        assert process.stdout is not None  # noqa: S101 -- it was started with a pipe
        while not self._ended.is_set() and (chunk := os.read(process.stdout.fileno(), 65536)):
            os.write(sys.stdout.fileno(), chunk)
            with self._lock:
                self._output += chunk
                self._forget_some()
            self.last_words = (self.last_words + chunk.decode(errors="replace"))[-LAST_WORDS_BYTES:]

    def _forget_some(self) -> None:
        """What cannot be sent is kept in the pod's memory, which is the recipe's: the oldest half of too much goes."""
        if len(self._output) > UNSENT_BYTES:
            cut = self._output.find(b"\n", UNSENT_BYTES // 2) + 1 or UNSENT_BYTES // 2
            del self._output[:cut]
            self._forgotten += cut

    def _carry(self) -> None:
        while not self._ended.wait(self._seconds):
            self._round()

    def _round(self) -> bool:
        """Sends what there is; False when some of it could not be sent, and stays for the next round."""
        try:
            while self._send("messages", self._next_messages) or self._send("log", self._next_output):
                pass
        except LlmopsError as error:
            sys.stderr.write(f"messages wait: {error}\n")
            return False
        return True

    def _send(self, kind: str, following: Any) -> bool:
        piece = self._waiting.get(kind) or following()
        if not piece:
            return False
        self._waiting[kind] = piece
        index = self._sent[kind] + 1
        if kind == "log":
            self._records.put_log(self._attempt, self._pod, index, piece)
        else:
            text = StringIO(piece.decode(errors="replace"))
            self._store.place.asked(lambda: self._channel.upload_messages_chunk(text, index))
        self._sent[kind] = index
        del self._waiting[kind]
        return True

    def _next_messages(self) -> bytes:
        """Whole lines only, a piece of them; the figures of the GPUs beside them now and then."""
        lines = b""
        if self._file.is_file():
            with self._file.open("rb") as stream:
                stream.seek(self._read_bytes)
                lines = stream.read(PIECE_BYTES)
                lines += b"" if b"\n" in lines else stream.readline()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._read_bytes += len(lines)
        self._rounds += 1
        if self._rounds % GPU_EVERY == 1 and (figures := gpu_figures()):
            lines += _custom({"gpu": figures})
        return lines.strip(b"\n")

    def _next_output(self) -> bytes:
        """Up to the last whole line, or all of a piece that has none."""
        with self._lock:
            if self._forgotten:
                self._output[:0] = b"(%d bytes are missing here: the store did not answer)\n" % self._forgotten
                self._forgotten = 0
            piece = bytes(self._output[:PIECE_BYTES])
            cut = piece.rfind(b"\n") + 1
            if not cut and len(piece) < PIECE_BYTES and not self._ended.is_set():
                return b""
            piece = piece[:cut] if cut else piece
            del self._output[: len(piece)]
            return piece


def _custom(payload: dict[str, Any]) -> bytes:
    message = {PIPES_PROTOCOL_VERSION_FIELD: PIPES_PROTOCOL_VERSION, "method": "report_custom_message"}
    return json.dumps({**message, "params": {"payload": payload}}).encode() + b"\n"
