"""Checkpoints: what a training has reached, kept outside its machine, so that another machine goes on from there.

A checkpoint is a safetensors file (weights, optimiser, losses), a JSON file (figures and the place in the data) and a
manifest with the digests of both and of the training it belongs to. Only one whose every byte is as the manifest says
is gone on from; a torn or corrupted one is passed over for the one before it. The last two are kept.

Training waits only while its state is copied in memory; a thread writes the copy. If writing takes longer than the
interval, the next one is later. A failed write costs no training: it is said, and tried again at the next interval.

Where and how often is the launcher's choice, not the model's, and therefore stands in the environment:
LLMOPS_CHECKPOINTS (a folder or s3://bucket/prefix, of this training alone) and LLMOPS_CHECKPOINT_SECONDS.
"""

import json
import os
import re
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmops_core.errors import InputError, Interrupted, LlmopsError, Problem
from llmops_core.fingerprint import digest_of_file
from recipes.checkpoint_store import MANIFEST, CheckpointStore, FolderStore, open_store

if TYPE_CHECKING:
    from torch import Tensor

PLACE_VARIABLE, INTERVAL_VARIABLE = "LLMOPS_CHECKPOINTS", "LLMOPS_CHECKPOINT_SECONDS"
DEFAULT_INTERVAL_SECONDS = 600.0
KEPT = 2
TENSORS, FIGURES = "state.safetensors", "figures.json"
OWN_NAME = re.compile(r"\d{8}-[0-9a-f]{8}")  # serial number, and a word that no two processes share


@dataclass(frozen=True)
class State:
    """A training after `step` steps. The tensors are copies in the processor's memory."""

    step: int
    tensors: Mapping[str, "Tensor"]
    figures: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training, whose `identity` is the digest of all that decides its result."""

    def __init__(self, store: CheckpointStore, identity: str, interval_seconds: float) -> None:
        self._store, self._identity, self._interval_seconds = store, identity, interval_seconds
        self._whole: list[str] = []
        self._names: list[str] = []
        self._begun = self._last = time.monotonic()
        self._writing: threading.Thread | None = None
        self._written = self._failed = 0
        self._waited_seconds = self._writing_seconds = 0.0
        self.resumed_at: list[int] = []

    def newest(self) -> State | None:
        """The last whole checkpoint of this training, if there is one. Says which, and why others were passed over."""
        self._names = self._own_names()
        state = None
        for name in reversed(self._names):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    state = self._read(name, Path(folder))
                except _Unusable as error:
                    _say(f"checkpoint {name} is passed over: {error}")
                    continue
            self._whole = [name]
            _say(f"goes on after step {state.step}, from checkpoint {name}")
            break
        else:
            _say("there is no checkpoint to go on from; training starts anew")
        self._begun = self._last = time.monotonic()
        return state

    def due(self) -> bool:
        """Whether the interval is over and nothing is being written."""
        busy = self._writing is not None and self._writing.is_alive()
        return not busy and time.monotonic() - self._last >= self._interval_seconds

    def save(self, capture: Callable[[], State]) -> None:
        """Copy the state and write it beside the training."""
        self.finish()
        started = time.monotonic()
        state = capture()
        self._last = time.monotonic()
        self._waited_seconds += self._last - started
        self._writing = threading.Thread(target=self._write, args=(state,), name="checkpoint")
        self._writing.start()

    def finish(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            started = time.monotonic()
            self._writing.join()
            self._waited_seconds += time.monotonic() - started
            self._writing = None

    def end(self) -> None:
        """The training is over: nothing more is written, and what that cost is said."""
        self.finish()
        if self._written + self._failed:
            share = self.as_report()["waited_percent"]
            _say(f"{self._written} checkpoints; training stood still {share} % of its time for them")

    def as_report(self) -> dict[str, object]:
        """How many were written by this process, what share of its time training stood still for them."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        return {
            "written": self._written,
            "failed": self._failed,
            "waited_percent": round(100 * self._waited_seconds / seconds, 3),
            "writing_seconds": round(self._writing_seconds, 3),
            "resumed_at_steps": self.resumed_at,
        }

    def _write(self, state: State) -> None:
        from safetensors import SafetensorError

        started = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._whole.append(self._put(state, Path(folder)))
            self._written += 1
        except (LlmopsError, OSError, SafetensorError) as error:
            self._failed += 1
            _say(f"the checkpoint after step {state.step} is not whole: {error}")
        try:
            self._forget_old()
        except (LlmopsError, OSError) as error:
            _say(f"older checkpoints are still there: {error}")
        self._writing_seconds += time.monotonic() - started

    def _put(self, state: State, folder: Path) -> str:
        from safetensors.torch import save_file

        save_file(dict(state.tensors), folder / TENSORS)
        (folder / FIGURES).write_text(json.dumps(state.figures), encoding="utf-8")
        contents = [folder / TENSORS, folder / FIGURES]
        files = {each.name: {"sha256": digest_of_file(each), "bytes": each.stat().st_size} for each in contents}
        manifest = {"training": self._identity, "step": state.step, "files": files}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        serial = max((int(each[:8]) for each in self._names), default=0) + 1
        name = f"{serial:08d}-{secrets.token_hex(4)}"
        self._names.append(name)
        self._store.write(name, {each.name: each for each in [*contents, folder / MANIFEST]})
        return name

    def _forget_old(self) -> None:
        self._whole = self._whole[-KEPT:]
        for name in self._own_names():
            if name not in self._whole:
                self._store.remove(name)

    def _own_names(self) -> list[str]:
        """Whatever else lies in that place is none of ours, and stays."""
        return [name for name in self._store.names() if OWN_NAME.fullmatch(name)]

    def _read(self, name: str, folder: Path) -> State:
        if not self._store.read(name, MANIFEST, folder / MANIFEST):
            raise _Unusable("it has no manifest, so it was never whole")
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            training, step = manifest["training"], int(manifest["step"])
            wanted = {file: manifest["files"][file]["sha256"] for file in (TENSORS, FIGURES)}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _Unusable(f"its manifest cannot be read ({error})") from error
        if training != self._identity:
            raise _Unusable("it belongs to another training: the code, configuration, data or base differ")
        for file, digest in wanted.items():
            if not self._store.read(name, file, folder / file):
                raise _Unusable(f"{file} is missing")
            if digest_of_file(folder / file) != digest:
                raise _Unusable(f"{file} is not what was written")
        from safetensors.torch import load_file

        # Copies: a tensor that is mapped from the file is not aligned as torch's own are, and the file goes away.
        tensors = {key: tensor.clone() for key, tensor in load_file(folder / TENSORS).items()}
        return State(step, tensors, cast("dict[str, Any]", json.loads((folder / FIGURES).read_bytes())))


class Following(Checkpoints):
    """Those of a process that works for another one: that one reads and writes, this one stops when it does."""

    def __init__(self) -> None:
        super().__init__(FolderStore(Path(os.devnull)), "", float("inf"))

    def newest(self) -> State | None:
        return None

    def due(self) -> bool:
        return False

    def save(self, capture: Callable[[], State]) -> None:
        pass


class _Unusable(Exception):
    """Why a checkpoint is no place to go on from."""


def open_checkpoints(identity: Callable[[], str], first: bool = True) -> Checkpoints | None:
    """Those the launcher asked for, or None. Raises InputError for an interval that is none."""
    address = os.environ.get(PLACE_VARIABLE)
    if not address:
        return None
    if not first:
        return Following()
    given = os.environ.get(INTERVAL_VARIABLE, str(DEFAULT_INTERVAL_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(Problem("environment", INTERVAL_VARIABLE, given, "seconds", "not an interval"))
    return Checkpoints(open_store(address), identity(), seconds)


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets while the block runs, in place of ending the process at once."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def stopped(step: int, steps: int) -> Interrupted:
    return Interrupted(f"asked to stop: ended after step {step} of {steps}; started again, it goes on from there")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
