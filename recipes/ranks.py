"""Several processes that train one model: each takes its part of every step's rows, and all take the same step.

Started by torchrun (recipes/parallel.py), one process a GPU. A step is that of a single process, up to the order in
which numbers are added: every process lays all rows of the step, keeps every n-th, and gradients and losses are added,
weighted by how many of the step's learned tokens each had. Weights then are equal everywhere, so that only the first
process writes: progress, checkpoints, results.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from recipes.checkpoints import State

BUCKET_NUMBERS = 2**24  # gradients travel in pieces of this size: fewer messages, and little memory for the copy


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world` processes. Alone, every method leaves things as they are."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """All processes get the first one's numbers, in place."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), 0)

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Each tensor becomes the sum over all processes, in place."""
        if self.world == 1:
            return
        bucket: list[torch.Tensor] = []
        for tensor in tensors:
            if bucket and sum(each.numel() for each in bucket) + tensor.numel() > BUCKET_NUMBERS:
                _add_up(bucket)
                bucket = []
            bucket.append(tensor)
        if bucket:
            _add_up(bucket)

    def share_state(self, state: State | None) -> State | None:
        """The first process's checkpoint, which the others need not be able to read."""
        if self.world == 1:
            return state
        kinds = {name: (str(each.dtype).removeprefix("torch."), each.shape) for name, each in _tensors(state).items()}
        said = None if state is None else {"step": state.step, "figures": state.figures, "kinds": kinds}
        header = json.loads(self._share_bytes(json.dumps(said).encode()))
        if header is None:
            return None
        tensors = {
            name: _tensors(state)[name] if self.first else torch.empty(shape, dtype=getattr(torch, kind))
            for name, (kind, shape) in header["kinds"].items()
        }
        self.share(tensors.values())
        return State(header["step"], tensors, header["figures"])

    def _share_bytes(self, content: bytes) -> bytes:
        size = torch.tensor([len(content)])
        self.share([size])
        text = torch.frombuffer(bytearray(content), dtype=torch.uint8) if self.first else torch.empty(0)
        if not self.first:
            text = torch.empty(int(size), dtype=torch.uint8)
        self.share([text])
        return text.numpy().tobytes()


ALONE = Ranks()


def _tensors(state: State | None) -> Mapping[str, torch.Tensor]:
    return {} if state is None else state.tensors


def _add_up(tensors: list[torch.Tensor]) -> None:
    flat = torch.cat([each.flatten() for each in tensors])
    distributed.all_reduce(flat)
    for each, added in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
        each.copy_(added.view_as(each))


def local_rank() -> int:
    """This process's number on its machine, and so the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def processes_here() -> int:
    """How many processes of this training share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """The place that torchrun gave this process; alone without torchrun."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(distributed.get_rank(), world)
    finally:
        distributed.destroy_process_group()
