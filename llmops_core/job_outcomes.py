"""How a job on a cluster ended, in one word that says who acts, and what follows from it.

The cluster tells of an end in many places: conditions of the Job; conditions, status and containers of its pods;
events; and the pod's own last words in the object store. `classify` reads them in the order of what they prove: a
result that is there is a success whatever happened after it; a deadline explains why pods were deleted; a disrupted pod
is not to blame for its exit code. ACTIONS is the table of what follows: what the cluster did to the job is done again
for nothing, a job that ran out of memory gets the next size, and what a person must mend is never tried again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal

Manifest = Mapping[str, Any]

ERROR_OF_INPUT = 1
SIGNALS_FROM, KILLED = 128, 137


class Outcome(Enum):
    SUCCEEDED = "succeeded"
    FAILED_BY_INPUT = "failed_by_input"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"
    POD_DELETED = "pod_deleted"
    IMAGE_NOT_PULLED = "image_not_pulled"
    UNSCHEDULABLE = "unschedulable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    LOST = "lost"


Action = Literal["done", "again", "more_memory", "retry", "fix_input", "fix_environment", "cancelled"]

# again: for nothing, and as often as it happens. retry: by the asset's own policy, which counts.
ACTIONS: dict[Outcome, Action] = {
    Outcome.SUCCEEDED: "done",
    Outcome.FAILED_BY_INPUT: "fix_input",
    Outcome.CRASHED: "retry",
    Outcome.OUT_OF_MEMORY: "more_memory",
    Outcome.OUT_OF_DISK: "fix_environment",
    Outcome.EVICTED: "again",
    Outcome.PREEMPTED: "again",
    Outcome.NODE_LOST: "again",
    Outcome.POD_DELETED: "retry",
    Outcome.IMAGE_NOT_PULLED: "fix_environment",
    Outcome.UNSCHEDULABLE: "fix_environment",
    Outcome.DEADLINE_EXCEEDED: "fix_environment",
    Outcome.CANCELLED: "cancelled",
    Outcome.LOST: "retry",
}


@dataclass(frozen=True)
class End:
    """One attempt's end. `reason` is a sentence with the cluster's own words; `last_words` is the end of the output."""

    outcome: Outcome
    reason: str
    last_words: str = ""

    def as_dict(self) -> dict[str, str]:
        return {**asdict(self), "outcome": self.outcome.value}


@dataclass(frozen=True)
class Evidence:
    """All that is known when an attempt is over. `job` is None when there is no such object (any more); `said` is what
    the pod wrote at its end: exit_code, out_of_memory, last_words; `has_result` whether its result is published."""

    job: Manifest | None
    pods: Sequence[Manifest] = ()
    events: Sequence[Manifest] = ()
    said: Mapping[str, Any] | None = None
    has_result: bool = False


def classify(evidence: Evidence) -> End:
    """How an attempt ended that is over. Every attempt gets a name; what nothing explains is `lost`."""
    words = _last_words(evidence)
    if evidence.has_result:
        return End(Outcome.SUCCEEDED, "its result is published", words)
    failure = condition_of(evidence.job, "Failed", "FailureTarget")
    if failure is not None and failure.get("reason") == "DeadlineExceeded":
        return End(Outcome.DEADLINE_EXCEEDED, _told(failure, "it ran longer than its deadline"), words)
    for judge in (_disrupted, _ended_by_kubelet, _by_its_container):
        for pod in evidence.pods:
            if (end := judge(pod, evidence, words)) is not None:
                return end
    if evidence.said is not None:
        code = int(evidence.said["exit_code"])
        return _by_exit_code(code, bool(evidence.said.get("out_of_memory")), words, code == ERROR_OF_INPUT)
    return _without_words(evidence, failure, words)


def waits_for(pods: Sequence[Manifest]) -> End | None:
    """What keeps a pod from starting, None when nothing does that is known; an end only if it lasts."""
    for pod in pods:
        for status in _containers(pod):
            waiting: Manifest = status.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in IMAGE_REASONS:
                return End(Outcome.IMAGE_NOT_PULLED, f"{waiting['reason']}: {waiting.get('message', '')}".strip(": "))
            if waiting.get("reason") in ("CreateContainerConfigError", "CreateContainerError"):
                return End(Outcome.UNSCHEDULABLE, f"{waiting['reason']}: {waiting.get('message', '')}".strip(": "))
        scheduled = condition_of(pod, "PodScheduled", status="False")
        if scheduled is not None and scheduled.get("reason") == "Unschedulable":
            return End(Outcome.UNSCHEDULABLE, _told(scheduled, "no node fits"))
    return None


IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


def is_over(pod: Manifest) -> bool:
    """Whether a pod has ended, well or badly. One that is being deleted has not, until its container has."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_finished(job: Manifest) -> bool:
    """Whether a Job or TrainJob has ended for good."""
    return condition_of(job, "Complete", "SuccessCriteriaMet", "Failed") is not None


def is_suspended(job: Manifest) -> bool:
    return bool(job.get("spec", {}).get("suspend"))


def condition_of(found: Manifest | None, *kinds: str, status: str = "True") -> Manifest | None:
    """The first condition of one of these kinds that has the status."""
    for condition in (found or {}).get("status", {}).get("conditions") or ():
        if condition.get("type") in kinds and condition.get("status") == status:
            return condition
    return None


@dataclass(frozen=True)
class Past:
    """An attempt of the same job that is over, by whichever run."""

    number: int
    outcome: Outcome
    memory_gb: float
    run_id: str


def memory_for_next(past: Sequence[Past], wanted_gb: float, ladder: Sequence[float], run_id: str) -> float | None:
    """The memory of the next attempt: the first size above the largest that was too small.

    None when this run has already seen the largest fail. A new run tries the largest once more, because someone asked.
    """
    sizes = [wanted_gb, *(size for size in ladder if size > wanted_gb)]
    too_small = [each for each in past if each.outcome is Outcome.OUT_OF_MEMORY]
    worst = max((each.memory_gb for each in too_small), default=0.0)
    fitting = [size for size in sizes if size > worst]
    if fitting:
        return fitting[0]
    return None if any(each.run_id == run_id for each in too_small) else sizes[-1]


def _disrupted(pod: Manifest, evidence: Evidence, words: str) -> End | None:
    condition = condition_of(pod, "DisruptionTarget")
    if condition is None:
        return None
    reason = str(condition.get("reason", ""))
    if reason == "TerminationByKubelet":
        return _ended_by_kubelet(pod, evidence, words) or End(Outcome.EVICTED, _told(condition, "evicted"), words)
    outcome = DISRUPTIONS.get(reason, Outcome.EVICTED)
    return End(outcome, _told(condition, "the cluster took its node"), words)


DISRUPTIONS = {
    "PreemptionByScheduler": Outcome.PREEMPTED,
    "DeletionByTaintManager": Outcome.NODE_LOST,
    "DeletionByPodGC": Outcome.NODE_LOST,
    "EvictionByEvictionAPI": Outcome.EVICTED,
}


def _ended_by_kubelet(pod: Manifest, evidence: Evidence, words: str) -> End | None:
    status = pod.get("status", {})
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    told = f"{reason}: {message}".strip(": ")
    if reason == "Evicted":
        # its own limit, not the node's need: the next pod would end the same way
        own = "exceeds the limit" in message or "exceeds the total limit" in message
        return End(Outcome.OUT_OF_DISK if own else Outcome.EVICTED, told, words)
    if reason in ("NodeLost", "NodeShutdown", "Shutdown", "Terminated"):
        return End(Outcome.NODE_LOST, told, words)
    if reason == "Preempting":
        return End(Outcome.PREEMPTED, told, words)
    refused = reason.startswith("OutOf") or reason in ("UnexpectedAdmissionError", "NodeAffinity", "NodeName")
    return End(Outcome.EVICTED, told, words) if refused else None  # by the kubelet, before it ran anything


def _by_its_container(pod: Manifest, evidence: Evidence, words: str) -> End | None:
    for status in _containers(pod):
        ended: Manifest | None = status.get("state", {}).get("terminated")
        if not ended:
            continue
        said = evidence.said or {}
        starved = ended.get("reason") == "OOMKilled" or bool(said.get("out_of_memory"))
        deleted = pod.get("metadata", {}).get("deletionTimestamp") is not None
        code = int(ended.get("exitCode", 0))
        if deleted and not starved and said.get("exit_code") != ERROR_OF_INPUT:
            return End(Outcome.POD_DELETED, f"the pod was deleted ({_deleted_by(evidence)})", words)
        if code == 0 and len(evidence.pods) > 1:
            continue  # of several nodes, the one that failed explains the end
        # 1 is also how an interpreter ends that could not even start our program; only the program blames the input
        blames = code == ERROR_OF_INPUT and said.get("exit_code") == ERROR_OF_INPUT
        return _by_exit_code(code, starved, words, blames)
    return None


def _by_exit_code(code: int, starved: bool, words: str, blames: bool) -> End:
    if starved:
        return End(Outcome.OUT_OF_MEMORY, "it was killed because it used more memory than it may", words)
    if blames:
        lines = words.strip().splitlines()
        return End(Outcome.FAILED_BY_INPUT, lines[-1] if lines else "it gave no reason", words)
    if code == 0:
        return End(Outcome.CRASHED, "it ended well but published no result", words)
    how = f"by signal {code - SIGNALS_FROM}" if code > SIGNALS_FROM else f"with exit code {code}"
    return End(Outcome.CRASHED, f"it ended {how}", words)


def _without_words(evidence: Evidence, failure: Manifest | None, words: str) -> End:
    """No container and no last words tell the end: the pod or the Job itself is gone."""
    for event in evidence.events:
        reason, told = str(event.get("reason", "")), f"{event.get('reason')}: {event.get('message', '')}"
        if reason in ("Preempted", "Preempting"):
            return End(Outcome.PREEMPTED, told, words)
        if reason in ("TaintManagerEviction", "NodeNotReady", "DeletingPod"):
            return End(Outcome.NODE_LOST, told, words)
        if reason == "Evicted":
            return End(Outcome.EVICTED, told, words)
        if reason == "FailedCreate" and not evidence.pods:
            return End(Outcome.UNSCHEDULABLE, told, words)
    if evidence.job is None:
        return End(Outcome.LOST, "the job was deleted, and left no result", words)
    if evidence.pods or failure is not None:
        return End(Outcome.POD_DELETED, f"the pod was deleted ({_deleted_by(evidence)})", words)
    return End(Outcome.LOST, "the cluster knows of no pod that ran it", words)


def _containers(pod: Manifest) -> Sequence[Manifest]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _deleted_by(evidence: Evidence) -> str:
    killing = [event for event in evidence.events if event.get("reason") == "Killing"]
    return str(killing[-1].get("message")) if killing else "nothing says by whom"


def _last_words(evidence: Evidence) -> str:
    if evidence.said and evidence.said.get("last_words"):
        return str(evidence.said["last_words"])
    for pod in evidence.pods:
        for status in _containers(pod):
            ended: Manifest = status.get("state", {}).get("terminated") or {}
            if ended.get("message"):
                return str(ended["message"])
    return ""


def _told(condition: Manifest, otherwise: str) -> str:
    words = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return words or otherwise


def has_failed(pods: Sequence[Manifest]) -> bool:
    return any(pod.get("status", {}).get("phase") == "Failed" for pod in pods)


def ran_seconds(pods: Sequence[Manifest], now: datetime) -> float:
    """How long the pods' containers ran, from the first that started to the last that ended, or until now."""
    spans: list[tuple[datetime, datetime]] = []
    for pod in pods:
        for status in _containers(pod):
            state: Manifest = status.get("state", {})
            ran: Manifest = state.get("terminated") or state.get("running") or {}
            if ran.get("startedAt"):
                spans.append((_time(ran["startedAt"]), _time(ran["finishedAt"]) if ran.get("finishedAt") else now))
    if not spans:
        return 0.0
    return max(0.0, (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
