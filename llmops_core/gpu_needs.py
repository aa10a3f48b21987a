"""How many GPUs a job or a model server holds, and on how many nodes.

A training spreads over as many nodes as it needs. A model server stands on one, and so does the evaluation, which asks
one that it starts itself: vLLM splits the model over the GPUs of its node, and llama.cpp's build is for processors.
What is held is counted the same everywhere: in manifests, in bills and in the pool that jobs wait for. Pods are alike,
so nine GPUs of nodes with eight are two pods of five.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llmops_core.job_settings import GpuPool


@dataclass(frozen=True)
class Spread:
    """`nodes` pods with `gpus` GPUs each."""

    nodes: int = 1
    gpus: int = 0

    @property
    def total(self) -> int:
        return self.nodes * self.gpus


def pool_of(count: int, kind: str | None, gpus: Mapping[str, GpuPool]) -> GpuPool | None:
    """Where so many GPUs of a kind are, None for none of them; of the first kind that there is for any kind."""
    if not count:
        return None
    return gpus.get(kind, GpuPool()) if kind is not None else next(iter(gpus.values()), GpuPool())


def spread(count: int, kind: str | None, gpus: Mapping[str, GpuPool]) -> Spread:
    """Of a training."""
    pool = pool_of(count, kind, gpus)
    if pool is None:
        return Spread()
    nodes = math.ceil(count / pool.per_node)
    return Spread(nodes, math.ceil(count / nodes))


def gpus_of_server(engine: str, count: int, kind: str | None, gpus: Mapping[str, GpuPool]) -> int:
    """Of one model server, where the model's training takes `count`."""
    pool = pool_of(count, kind, gpus)
    return min(count, pool.per_node) if pool is not None and engine == "vllm" else 0
