"""How a model server on a cluster stands, read from its Deployment and its pods as the cluster describes them.

A server is ready when every replica of the newest plan is, and none of an older one is left. While it is not, its pods
say why: what can still pass (an image that is pulled, a node that is made) is only told when patience ends; a container
that was started again and again will not get better by waiting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_core.job_outcomes import condition_of, waits_for

Manifest = Mapping[str, Any]

MANY_STARTS = 2  # restarts of one container, after which it is called broken


@dataclass(frozen=True)
class Crash:
    """A container that ends as often as it is started. `words` is the end of what it said, if the cluster kept it."""

    pod: str
    container: str
    exit_code: int
    reason: str
    words: str

    def __str__(self) -> str:
        how = self.reason if self.reason == "OOMKilled" else f"exit code {self.exit_code}"
        return f"{self.container} in {self.pod} ended again and again ({how})"


def is_leaving(found: Manifest) -> bool:
    return found["metadata"].get("deletionTimestamp") is not None


def is_ready(deployment: Manifest) -> bool:
    status: Manifest = deployment.get("status") or {}
    wanted = int(deployment["spec"].get("replicas", 1))
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
    newest = status.get("updatedReplicas", 0) >= wanted and status.get("replicas", 0) == status.get(
        "updatedReplicas", 0
    )
    return seen and newest and status.get("readyReplicas", 0) >= wanted


def replicas_told(deployment: Manifest) -> str:
    status: Manifest = deployment.get("status") or {}
    return f"{status.get('readyReplicas', 0)} of {deployment['spec'].get('replicas', 1)} replicas are ready"


def crash_of(pods: Sequence[Manifest]) -> Crash | None:
    """The first container that was started too often and does not run now."""
    for pod in pods:
        status: Manifest = pod.get("status") or {}
        held: list[Manifest] = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        for one in held:
            state: Manifest = one.get("state") or {}
            if one.get("restartCount", 0) < MANY_STARTS or "running" in state:
                continue
            before: Manifest = one.get("lastState") or {}
            ended: Manifest = state.get("terminated") or before.get("terminated") or {}
            told = (int(ended.get("exitCode", 0)), str(ended.get("reason", "")), str(ended.get("message", "")))
            return Crash(pod["metadata"]["name"], one["name"], *told)
    return None


def lacks(deployment: Manifest, pods: Sequence[Manifest]) -> str:
    """What the cluster lacks to run the pods, in its own words; empty where nothing is known to be lacking."""
    refused = condition_of(deployment, "ReplicaFailure")
    if refused is not None:
        return f"{refused.get('reason', '')}: {refused.get('message', '')}".strip(": ")
    waiting = waits_for(pods)
    return f"{waiting.outcome.value}: {waiting.reason}" if waiting is not None else ""
