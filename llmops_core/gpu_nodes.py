"""Whether jobs that ask for GPUs would find a node: by label, past its taints, with enough GPUs on one of them.

Nodes with GPUs are nearly always tainted, so that nothing else lands there; looking only at nodes without taints finds
none of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llmops_core.doctor import Diagnosis, Health
from llmops_core.job_settings import ClusterJobsPlace, GpuPool, Toleration


@dataclass(frozen=True)
class Taint:
    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}"


@dataclass(frozen=True)
class Node:
    """What of a node decides who runs there; `allocatable` counts whole things, such as GPUs."""

    name: str
    ready: bool
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    taints: tuple[Taint, ...] = ()
    allocatable: Mapping[str, int] = field(default_factory=dict[str, int])


def judge_gpus(kind: str, pool: GpuPool, place: ClusterJobsPlace, nodes: Iterable[Node]) -> Diagnosis:
    name, wanted = f"gpus {kind}", {**place.node_selector, **pool.node_selector}
    labelled = [node for node in nodes if wanted.items() <= node.labels.items()]
    if not labelled:
        labels = ", ".join(f"{key}={value}" for key, value in wanted.items()) or "any label"
        mend = "add such nodes (a pool that grows from zero must have one while this runs), or mend jobs.gpus"
        return Diagnosis(name, Health.FAILED, f"no node with {labels}", mend)
    shut = {
        node.name: taints for node in labelled if (taints := not_borne(node, (*place.tolerations, *pool.tolerations)))
    }
    open_nodes = [node for node in labelled if node.ready and node.name not in shut]
    if not open_nodes:
        told = ", ".join(sorted({str(taint) for taints in shut.values() for taint in taints}))
        found = f"{len(labelled)} of them, none ready" if not told else f"{len(labelled)} of them, shut by {told}"
        mend = "bear these taints in jobs.gpus" if told else "look at the nodes: kubectl describe node"
        return Diagnosis(name, Health.FAILED, found, mend)
    counts = [node.allocatable.get(pool.resource, 0) for node in open_nodes]
    found = f"{sum(counts)} on {len(counts)} nodes, {max(counts)} on one"
    if max(counts) < pool.per_node:
        mend = (
            f"{pool.resource} is offered by the vendor's device plugin: install it, or lower per_node ({pool.per_node})"
        )
        return Diagnosis(name, Health.FAILED, found, mend)
    return Diagnosis(name, Health.OK, found)


def not_borne(node: Node, borne: Iterable[Toleration]) -> list[Taint]:
    """The taints of the node that keep pods away which bear only these."""
    tolerations = list(borne)
    hard = [taint for taint in node.taints if taint.effect != "PreferNoSchedule"]
    return [taint for taint in hard if not any(_bears(each, taint) for each in tolerations)]


def _bears(toleration: Toleration, taint: Taint) -> bool:
    if toleration.key != taint.key or toleration.effect not in (None, taint.effect):
        return False
    return toleration.value is None or toleration.value == taint.value
