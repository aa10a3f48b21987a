"""How jobs end: every end has a name and the right consequence, whatever the cluster says of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, Interrupted, LlmopsError, TransientError
from llmops_core.exit_codes import blames_a_peer, exit_code_of
from llmops_core.job_attempts import Past, memory_for_next
from llmops_core.job_outcomes import ACTIONS, End, Evidence, Outcome, classify, end_by_code, waits_for

JOB: dict[str, Any] = {"metadata": {"name": "j"}, "spec": {}, "status": {}}


def failed(reason: str, kind: str = "Failed") -> dict[str, Any]:
    return {**JOB, "status": {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": "told"}]}}


def pod(
    code: int | None = None, why: str = "Error", deleted: bool = False, uid: str = "p", at: int = 0, **status: Any
) -> dict[str, Any]:
    if code is not None:
        ended = {"exitCode": code, "reason": why, "message": "last line", "finishedAt": f"2026-11-21T16:00:{at:02}Z"}
        status["containerStatuses"] = [{"name": "recipe", "state": {"terminated": ended}}]
    stamp = {"deletionTimestamp": "2026-11-21T16:00:00Z"} if deleted else {}
    return {"metadata": {"name": "p", "uid": uid, **stamp}, "status": {"phase": "Failed", **status}}


def disrupted(why: str, **more: Any) -> dict[str, Any]:
    return pod(143, conditions=[{"type": "DisruptionTarget", "status": "True", "reason": why}], **more)


def event(reason: str) -> dict[str, Any]:
    return {"reason": reason, "message": "told by an event"}


def said(code: int, words: str = "", uid: str = "p", **more: Any) -> dict[str, dict[str, Any]]:
    return {uid: {"exit_code": code, "last_words": words, **more}}


OWN_LIMIT = 'exceeded its local ephemeral storage limit "100G".'
BACKOFF = failed("BackoffLimitExceeded")
ENDS = {
    "a result is there": (Evidence(BACKOFF, [pod(137, "OOMKilled")], has_result=True), Outcome.SUCCEEDED),
    "a result is there, the job not": (Evidence(None, has_result=True), Outcome.SUCCEEDED),
    "blamed on the input": (Evidence(BACKOFF, [pod(65)], said=said(65)), Outcome.FAILED_BY_INPUT),
    "an exception that nobody expected": (Evidence(BACKOFF, [pod(1)], said=said(1, "KeyError")), Outcome.CRASHED),
    "our program did not start": (Evidence(BACKOFF, [pod(1)]), Outcome.CRASHED),
    "a package is missing": (Evidence(BACKOFF, [pod(69)], said=said(69)), Outcome.ENVIRONMENT_LACKS),
    "its bytes changed": (Evidence(BACKOFF, [pod(76)], said=said(76)), Outcome.INTEGRITY_BROKEN),
    "the store did not answer": (Evidence(BACKOFF, [pod(75)], said=said(75)), Outcome.INTERRUPTED),
    "a crash": (Evidence(BACKOFF, [pod(9)]), Outcome.CRASHED),
    "a signal": (Evidence(BACKOFF, [pod(139)]), Outcome.CRASHED),
    "no result": (Evidence(JOB, [pod(0, "Completed")]), Outcome.CRASHED),
    "out of memory": (Evidence(BACKOFF, [pod(137, "OOMKilled")]), Outcome.OUT_OF_MEMORY),
    "only its child out of memory": (
        Evidence(BACKOFF, [pod(137)], said=said(137, out_of_memory=True)),
        Outcome.OUT_OF_MEMORY,
    ),
    "the node needed its memory": (
        Evidence(BACKOFF, [pod(reason="Evicted", message="The node was low on resource: memory.")]),
        Outcome.EVICTED,
    ),
    "it filled its disk": (
        Evidence(BACKOFF, [pod(reason="Evicted", message='Usage of EmptyDir volume "work" exceeds the limit "1M".')]),
        Outcome.OUT_OF_DISK,
    ),
    "it filled the disk with all": (
        Evidence(BACKOFF, [pod(reason="Evicted", message="Pod ephemeral local storage usage exceeds the total limit")]),
        Outcome.OUT_OF_DISK,
    ),
    "it filled the disk of its container": (
        Evidence(BACKOFF, [pod(reason="Evicted", message=f"Container recipe {OWN_LIMIT}")]),
        Outcome.OUT_OF_DISK,
    ),
    "it filled its disk, and is gone": (
        Evidence(BACKOFF, events=[{"reason": "Evicted", "message": f"Container recipe {OWN_LIMIT}"}]),
        Outcome.OUT_OF_DISK,
    ),
    "its node started again": (Evidence(BACKOFF, [pod(137, "ContainerStatusUnknown")]), Outcome.NODE_LOST),
    "its node's runtime started again": (Evidence(BACKOFF, [pod(255, "Unknown")]), Outcome.NODE_LOST),
    "one of two nodes started again": (
        Evidence(BACKOFF, [pod(1), pod(255, "Unknown", uid="q", at=1)]),
        Outcome.NODE_LOST,
    ),
    "its node started again when it had ended": (
        Evidence(BACKOFF, [pod(137, "ContainerStatusUnknown")], said=said(65)),
        Outcome.FAILED_BY_INPUT,
    ),
    "deleted, and its node did not look": (
        Evidence(BACKOFF, [pod(137, "ContainerStatusUnknown", deleted=True)]),
        Outcome.POD_DELETED,
    ),
    "the GPUs of the node lie apart": (
        Evidence(BACKOFF, [pod(reason="TopologyAffinityError", message="Pod was rejected: no alignment")]),
        Outcome.EVICTED,
    ),
    "the node never takes such a pod": (
        Evidence(BACKOFF, [pod(reason="SysctlForbidden", message="Pod was rejected: forbidden sysctl")]),
        Outcome.UNSCHEDULABLE,
    ),
    "gone, a taint had passed": (
        Evidence(BACKOFF, events=[{"reason": "TaintManagerEviction", "message": "Cancelling deletion of Pod a/b"}]),
        Outcome.POD_DELETED,
    ),
    "preempted": (Evidence(BACKOFF, [disrupted("PreemptionByScheduler")]), Outcome.PREEMPTED),
    "a taint": (Evidence(BACKOFF, [disrupted("DeletionByTaintManager", deleted=True)]), Outcome.NODE_LOST),
    "the node is gone": (Evidence(BACKOFF, [disrupted("DeletionByPodGC")]), Outcome.NODE_LOST),
    "drained": (Evidence(BACKOFF, [disrupted("EvictionByEvictionAPI", deleted=True)]), Outcome.EVICTED),
    "the kubelet chose it": (Evidence(BACKOFF, [disrupted("TerminationByKubelet")]), Outcome.EVICTED),
    "the node shut down": (
        Evidence(BACKOFF, [disrupted("TerminationByKubelet", reason="Terminated")]),
        Outcome.NODE_LOST,
    ),
    "refused by the kubelet": (Evidence(BACKOFF, [pod(reason="OutOfnvidia.com/gpu")]), Outcome.EVICTED),
    "deleted": (Evidence(BACKOFF, [pod(137, deleted=True)]), Outcome.POD_DELETED),
    "deleted and gone": (Evidence(BACKOFF), Outcome.POD_DELETED),
    "gone, an event tells of preemption": (Evidence(BACKOFF, events=[event("Preempted")]), Outcome.PREEMPTED),
    "gone, an event tells of the node": (Evidence(BACKOFF, events=[event("TaintManagerEviction")]), Outcome.NODE_LOST),
    "past its deadline": (Evidence(failed("DeadlineExceeded"), [pod(143, deleted=True)]), Outcome.DEADLINE_EXCEEDED),
    "about to be past it": (Evidence(failed("DeadlineExceeded", "FailureTarget")), Outcome.DEADLINE_EXCEEDED),
    "the job is gone": (Evidence(None), Outcome.LOST),
    "the job is gone, its last words not": (Evidence(None, said=said(65)), Outcome.FAILED_BY_INPUT),
    "nothing is known": (Evidence(JOB), Outcome.LOST),
    "the quota refuses it": (Evidence(JOB, events=[event("FailedCreate")]), Outcome.UNSCHEDULABLE),
    "the second of two nodes": (Evidence(BACKOFF, [pod(0, "Completed"), pod(65, uid="q")]), Outcome.FAILED_BY_INPUT),
    "its peer was killed, and it was told first": (
        Evidence(BACKOFF, [pod(1), pod(137, "OOMKilled", uid="q", at=1)]),
        Outcome.OUT_OF_MEMORY,
    ),
    "its peer refused the input": (
        Evidence(BACKOFF, [pod(1), pod(143, deleted=True, uid="q"), pod(65, uid="r", at=1)]),
        Outcome.FAILED_BY_INPUT,
    ),
    "an earlier pod refused, before its queue took its place": (
        Evidence(BACKOFF, [pod(9, uid="q")], said=said(75) | said(9, uid="q")),
        Outcome.CRASHED,
    ),
    "an earlier pod was interrupted, and all are gone": (
        Evidence(None, said=said(75, began=10, ended=20) | said(65, uid="q", began=30, ended=40)),
        Outcome.FAILED_BY_INPUT,
    ),
    "two that ran together are gone": (
        Evidence(None, said=said(65, began=10, ended=20) | said(1, uid="q", began=11, ended=21)),
        Outcome.FAILED_BY_INPUT,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_was_taken_for_another(name: str) -> None:
    evidence, outcome = ENDS[name]
    assert classify(evidence).outcome is outcome


def test_an_outcome_had_no_consequence() -> None:
    assert set(ACTIONS) == set(Outcome)
    free = {outcome for outcome, action in ACTIONS.items() if action == "again"}
    assert free == {Outcome.EVICTED, Outcome.PREEMPTED, Outcome.NODE_LOST}


def test_the_last_words_were_lost() -> None:
    end = classify(Evidence(BACKOFF, [pod(65)], said=said(65)))
    assert end.reason == "last line" and end.as_dict()["outcome"] == "failed_by_input"
    end = classify(Evidence(BACKOFF, [pod(9)], said=said(9, "a trace")))
    assert end.last_words == "a trace" and "exit code 9" in end.reason


def test_the_words_of_an_earlier_pod_were_shown() -> None:
    found = [pod(9, uid="new"), pod(143, uid="other")]
    end = classify(Evidence(BACKOFF, found, said=said(75, "asked to end", "old") | said(9, "why", "new")))
    assert end.last_words == "why"


ERRORS: dict[type[LlmopsError], Outcome] = {
    InputError: Outcome.FAILED_BY_INPUT,
    EnvironmentLacks: Outcome.ENVIRONMENT_LACKS,
    IntegrityError: Outcome.INTEGRITY_BROKEN,
    TransientError: Outcome.INTERRUPTED,
    Interrupted: Outcome.INTERRUPTED,
    LlmopsError: Outcome.CRASHED,
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_said_on_its_way_that_somebody_else_acts(kind: type[LlmopsError]) -> None:
    assert end_by_code(exit_code_of(kind()), "").outcome is ERRORS[kind]


def test_of_several_processes_one_was_heard_that_only_saw_another_die() -> None:
    assert sorted([143, 1, 65, 75, 137, 9, 69], key=blames_a_peer) == [65, 69, 137, 9, 1, 143, 75]


SCRAPS = st.sampled_from(["", "Evicted", "OOMKilled", "Error", "DeadlineExceeded", "PreemptionByScheduler", "odd"])
PODS = st.builds(
    lambda code, why, deleted, reason, condition: pod(
        code, why, deleted, reason=reason, conditions=[{"type": condition, "status": "True", "reason": reason}]
    ),
    st.none() | st.integers(0, 255),
    SCRAPS,
    st.booleans(),
    SCRAPS,
    st.sampled_from(["Ready", "DisruptionTarget"]),
)


@given(
    st.none() | st.builds(failed, SCRAPS), st.lists(PODS, max_size=3), st.lists(st.builds(event, SCRAPS), max_size=2)
)
def test_an_end_had_no_name(job: dict[str, Any] | None, pods: list[dict[str, Any]], events: list[Any]) -> None:
    end = classify(Evidence(job, pods, events))
    assert end.outcome is not Outcome.SUCCEEDED and end.reason


WAITING = {"name": "recipe", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
NO_ROOM = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU"}


@pytest.mark.parametrize(
    ("status", "waits"),
    [
        ({"containerStatuses": [WAITING]}, End(Outcome.IMAGE_NOT_PULLED, "ImagePullBackOff: no such image")),
        ({"conditions": [NO_ROOM]}, End(Outcome.UNSCHEDULABLE, "Unschedulable: 0/3 nodes: no GPU")),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, None),
        ({"containerStatuses": [{"state": {"running": {}}}], "conditions": []}, None),
    ],
)
def test_why_a_pod_does_not_start_was_not_told(status: dict[str, Any], waits: End | None) -> None:
    assert waits_for([{"status": status}]) == waits


def starved(*sizes: float, run: str = "run") -> list[Past]:
    return [Past(number + 1, Outcome.OUT_OF_MEMORY, size, run) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("past", "size"),
    [
        ([], 32),
        ([Past(1, Outcome.CRASHED, 32, "run")], 32),
        (starved(32), 64),
        (starved(32, 64), 128),
        (starved(32, 64, 128), None),
        (starved(32, 64, 128, run="earlier"), 128),
        (starved(16), 32),
    ],
)
def test_memory_did_not_follow_the_ladder(past: list[Past], size: float | None) -> None:
    assert memory_for_next(past, 32, (16, 64, 128), "run") == size
