"""How jobs end: every end has a name and the right consequence, whatever the cluster says of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.job_outcomes import ACTIONS, End, Evidence, Outcome, Past, classify, memory_for_next, waits_for

JOB: dict[str, Any] = {"metadata": {"name": "j"}, "spec": {}, "status": {}}


def failed(reason: str, kind: str = "Failed") -> dict[str, Any]:
    return {**JOB, "status": {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": "told"}]}}


def pod(code: int | None = None, why: str = "Error", deleted: bool = False, **status: Any) -> dict[str, Any]:
    if code is not None:
        ended = {"exitCode": code, "reason": why, "message": "last line"}
        status["containerStatuses"] = [{"name": "recipe", "state": {"terminated": ended}}]
    stamp = {"deletionTimestamp": "2026-11-21T16:00:00Z"} if deleted else {}
    return {"metadata": {"name": "p", **stamp}, "status": {"phase": "Failed", **status}}


def disrupted(why: str, **more: Any) -> dict[str, Any]:
    return pod(143, conditions=[{"type": "DisruptionTarget", "status": "True", "reason": why}], **more)


def event(reason: str) -> dict[str, Any]:
    return {"reason": reason, "message": "told by an event"}


BLAMED = {"exit_code": 1}
BACKOFF = failed("BackoffLimitExceeded")
ENDS = {
    "a result is there": (Evidence(BACKOFF, [pod(137, "OOMKilled")], has_result=True), Outcome.SUCCEEDED),
    "a result is there, the job not": (Evidence(None, has_result=True), Outcome.SUCCEEDED),
    "blamed on the input": (Evidence(BACKOFF, [pod(1)], said=BLAMED), Outcome.FAILED_BY_INPUT),
    "our program did not start": (Evidence(BACKOFF, [pod(1)]), Outcome.CRASHED),
    "a crash": (Evidence(BACKOFF, [pod(9)]), Outcome.CRASHED),
    "a signal": (Evidence(BACKOFF, [pod(139)]), Outcome.CRASHED),
    "no result": (Evidence(JOB, [pod(0, "Completed")]), Outcome.CRASHED),
    "out of memory": (Evidence(BACKOFF, [pod(137, "OOMKilled")]), Outcome.OUT_OF_MEMORY),
    "only its child out of memory": (
        Evidence(BACKOFF, [pod(137)], said={"exit_code": 137, "out_of_memory": True}),
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
    "the job is gone, its last words not": (Evidence(None, said={"exit_code": 1}), Outcome.FAILED_BY_INPUT),
    "nothing is known": (Evidence(JOB), Outcome.LOST),
    "the quota refuses it": (Evidence(JOB, events=[event("FailedCreate")]), Outcome.UNSCHEDULABLE),
    "the second of two nodes": (Evidence(BACKOFF, [pod(0, "Completed"), pod(1)], said=BLAMED), Outcome.FAILED_BY_INPUT),
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
    end = classify(Evidence(BACKOFF, [pod(1)], said=BLAMED))
    assert end.reason == "last line" and end.as_dict()["outcome"] == "failed_by_input"
    said = classify(Evidence(BACKOFF, [pod(9)], said={"exit_code": 9, "last_words": "a trace"}))
    assert said.last_words == "a trace" and "exit code 9" in said.reason


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
