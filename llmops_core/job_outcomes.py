"""How a job on a cluster ended, in one word that says who acts, and what follows from it.

The cluster tells of an end in many places: conditions of the Job; conditions, status and containers of its pods;
events; and the pod's own last words in the object store. `classify` reads them in the order of what they prove: a
result that is there is a success whatever happened after it; a deadline explains why pods were deleted; a disrupted pod
is not to blame for its exit code. ACTIONS is the table of what follows: what the cluster did to the job is done again
for nothing, a job that ran out of memory gets the next size, what a person must mend is never tried again, and a crash
as often as the asset's own policy says, which is once: it may be a peer's death, or what happens every time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, Literal

from llmops_core.exit_codes import (
    ENVIRONMENT_LACKS,
    ERROR_OF_INPUT,
    INTEGRITY_BROKEN,
    SIGNALS_FROM,
    TRY_AGAIN,
    blames_a_peer,
)

Manifest = Mapping[str, Any]
Said = Mapping[str, Any]


class Outcome(Enum):
    SUCCEEDED = "succeeded"
    FAILED_BY_INPUT = "failed_by_input"
    ENVIRONMENT_LACKS = "environment_lacks"
    INTEGRITY_BROKEN = "integrity_broken"
    INTERRUPTED = "interrupted"
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


Action = Literal["done", "again", "more_memory", "retry", "fix_input", "fix_environment", "stop", "cancelled"]

# again: for nothing, and as often as it happens. retry: by the asset's own policy, which counts.
ACTIONS: dict[Outcome, Action] = {
    Outcome.SUCCEEDED: "done",
    Outcome.FAILED_BY_INPUT: "fix_input",
    Outcome.ENVIRONMENT_LACKS: "fix_environment",
    Outcome.INTEGRITY_BROKEN: "stop",
    Outcome.INTERRUPTED: "retry",
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


# What a program that ended by itself said of its end; any other code is a crash.
NAMED = {
    ERROR_OF_INPUT: Outcome.FAILED_BY_INPUT,
    ENVIRONMENT_LACKS: Outcome.ENVIRONMENT_LACKS,
    INTEGRITY_BROKEN: Outcome.INTEGRITY_BROKEN,
    TRY_AGAIN: Outcome.INTERRUPTED,
}


@dataclass(frozen=True)
class Evidence:
    """All that is known when an attempt is over. `job` is None when there is no such object (any more); `said` is what
    each pod, by its uid, wrote at its end: exit_code, out_of_memory, last_words, began and ended (both in seconds);
    `has_result` whether its result is published."""

    job: Manifest | None
    pods: Sequence[Manifest] = ()
    events: Sequence[Manifest] = ()
    said: Mapping[str, Said] = field(default_factory=dict[str, Said])
    has_result: bool = False


@dataclass(frozen=True)
class _Stop:
    """How one container ended, or the program in a pod that is gone."""

    code: int
    starved: bool
    deleted: bool
    unseen: bool
    at: str
    words: str

    @property
    def explains(self) -> tuple[bool, bool, int, str]:
        """Sorts the one first that explains the others: of several nodes, each ends when one does."""
        return not self.starved, self.code == 0, blames_a_peer(self.code), self.at


def classify(evidence: Evidence) -> End:
    """How an attempt ended that is over. Every attempt gets a name; what nothing explains is `lost`."""
    evidence = replace(evidence, said=_said_that_counts(evidence))
    stops = sorted(_stops(evidence), key=lambda stop: stop.explains)
    words = next((stop.words for stop in stops if stop.words), "")
    if evidence.has_result:
        return End(Outcome.SUCCEEDED, "its result is published", words)
    failure = condition_of(evidence.job, "Failed", "FailureTarget")
    if failure is not None and failure.get("reason") == "DeadlineExceeded":
        return End(Outcome.DEADLINE_EXCEEDED, _told(failure, "it ran longer than its deadline"), words)
    for judge in (_disrupted, _ended_by_kubelet):
        for pod in evidence.pods:
            if (end := judge(pod, words)) is not None:
                return end
    if not stops:
        return _without_words(evidence, failure, words)
    first = stops[0]
    if first.deleted and not first.starved and blames_a_peer(first.code):
        return End(Outcome.POD_DELETED, f"the pod was deleted ({_deleted_by(evidence)})", words)
    if first.unseen:
        return End(Outcome.NODE_LOST, "its node lost the container, as one does that starts again", words)
    return end_by_code(first.code, words, first.starved)


def end_by_code(code: int, words: str, starved: bool = False) -> End:
    """The end of a program that nobody else ended. `starved`: something of it was killed for its memory."""
    if starved:
        return End(Outcome.OUT_OF_MEMORY, "it was killed because it used more memory than it may", words)
    if code in NAMED:
        lines = words.strip().splitlines()
        return End(NAMED[code], lines[-1] if lines else "it gave no reason", words)
    if code == 0:
        return End(Outcome.CRASHED, "it ended well but published no result", words)
    how = f"by signal {code - SIGNALS_FROM}" if code > SIGNALS_FROM else f"with exit code {code}"
    return End(Outcome.CRASHED, f"it ended {how}", words)


def waits_for(pods: Sequence[Manifest]) -> End | None:
    """What keeps a pod from starting, None when nothing does that is known; an end only if it lasts."""
    for pod in pods:
        for status in containers_of(pod):
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


def _disrupted(pod: Manifest, words: str) -> End | None:
    condition = condition_of(pod, "DisruptionTarget")
    if condition is None:
        return None
    reason = str(condition.get("reason", ""))
    if reason == "TerminationByKubelet":
        return _ended_by_kubelet(pod, words) or End(Outcome.EVICTED, _told(condition, "evicted"), words)
    outcome = DISRUPTIONS.get(reason, Outcome.EVICTED)
    return End(outcome, _told(condition, "the cluster took its node"), words)


DISRUPTIONS = {
    "PreemptionByScheduler": Outcome.PREEMPTED,
    "DeletionByTaintManager": Outcome.NODE_LOST,
    "DeletionByPodGC": Outcome.NODE_LOST,
    "EvictionByEvictionAPI": Outcome.EVICTED,
}


def _ended_by_kubelet(pod: Manifest, words: str) -> End | None:
    status = pod.get("status", {})
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    told = f"{reason}: {message}".strip(": ")
    if reason == "Evicted":
        return End(_evicted(message), told, words)
    if reason in ("NodeLost", "NodeShutdown", "Shutdown", "Terminated"):
        return End(Outcome.NODE_LOST, told, words)
    if reason == "Preempting":
        return End(Outcome.PREEMPTED, told, words)
    passes = reason.startswith("OutOf") or reason in REFUSALS
    if passes or message.startswith("Pod was rejected"):  # before it ran anything
        return End(Outcome.EVICTED if passes else Outcome.UNSCHEDULABLE, told, words)
    return None


# Of a kubelet that has no room, or changed when the pod came: another node may take the next. Others a person mends.
REFUSALS = ("UnexpectedAdmissionError", "TopologyAffinityError", "InvalidNodeInfo", "NodeAffinity", "NodeName")


def _evicted(message: str) -> Outcome:
    """By its own limit (the kubelet has three sentences for it), which the next pod would meet too, or by its node."""
    own = ("exceeds the limit", "exceeds the total limit", "exceeded its local ephemeral storage limit")
    return Outcome.OUT_OF_DISK if any(words in message for words in own) else Outcome.EVICTED


def _said_that_counts(evidence: Evidence) -> Mapping[str, Said]:
    """Of the pods that are judged. When these are gone, of those that still ran when the last one began: a queue that
    takes a job's place away and gives it another leaves the words of pods that only did as they were told."""
    if evidence.pods:
        uids = {_uid(pod) for pod in evidence.pods}
        return {uid: said for uid, said in evidence.said.items() if uid in uids}
    newest = max((float(said.get("began", 0)) for said in evidence.said.values()), default=0.0)
    return {uid: said for uid, said in evidence.said.items() if float(said.get("ended", 0)) >= newest}


def _stops(evidence: Evidence) -> Iterator[_Stop]:
    for pod in evidence.pods:
        said = evidence.said.get(_uid(pod), {})
        starved, words = bool(said.get("out_of_memory")), str(said.get("last_words", ""))
        deleted = pod.get("metadata", {}).get("deletionTimestamp") is not None
        ended: list[Manifest] = [status.get("state", {}).get("terminated") or {} for status in containers_of(pod)]
        if said and not any(ended):
            yield _Stop(int(said["exit_code"]), starved, deleted, False, "", words)
        for each in filter(None, ended):
            killed = starved or each.get("reason") == "OOMKilled"
            told = words or str(each.get("message") or "")
            unseen = (each.get("reason"), each.get("exitCode")) in UNSEEN
            code = said["exit_code"] if unseen and said else each.get("exitCode", 0)
            yield _Stop(int(code), killed, deleted, unseen and not said, str(each.get("finishedAt") or ""), told)
    for said in () if evidence.pods else evidence.said.values():
        words = str(said.get("last_words", ""))
        yield _Stop(int(said["exit_code"]), bool(said.get("out_of_memory")), False, False, "", words)


# How kubelet and containerd tell of a container that is gone and whose end they did not see.
UNSEEN = (("ContainerStatusUnknown", 137), ("Unknown", 255))


def _uid(pod: Manifest) -> str:
    return str(pod.get("metadata", {}).get("uid", ""))


def _without_words(evidence: Evidence, failure: Manifest | None, words: str) -> End:
    """No container and no last words tell the end: the pod or the Job itself is gone."""
    for event in evidence.events:
        reason, told = str(event.get("reason", "")), f"{event.get('reason')}: {event.get('message', '')}"
        if reason in ("Preempted", "Preempting"):
            return End(Outcome.PREEMPTED, told, words)
        if reason in ("TaintManagerEviction", "NodeNotReady", "DeletingPod") and "Cancelling" not in told:
            return End(Outcome.NODE_LOST, told, words)
        if reason == "Evicted":
            return End(_evicted(str(event.get("message", ""))), told, words)
        if reason == "FailedCreate" and not evidence.pods:
            return End(Outcome.UNSCHEDULABLE, told, words)
    if evidence.job is None:
        return End(Outcome.LOST, "the job was deleted, and left no result", words)
    if evidence.pods or failure is not None:
        return End(Outcome.POD_DELETED, f"the pod was deleted ({_deleted_by(evidence)})", words)
    return End(Outcome.LOST, "the cluster knows of no pod that ran it", words)


def containers_of(pod: Manifest) -> Sequence[Manifest]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _deleted_by(evidence: Evidence) -> str:
    killing = [event for event in evidence.events if event.get("reason") == "Killing"]
    return str(killing[-1].get("message")) if killing else "nothing says by whom"


def _told(condition: Manifest, otherwise: str) -> str:
    words = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return words or otherwise


def has_failed(pods: Sequence[Manifest]) -> bool:
    return any(pod.get("status", {}).get("phase") == "Failed" for pod in pods)
