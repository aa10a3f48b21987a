"""How a server on a cluster stands, from what the cluster says of it."""

from typing import Any

import pytest

from llmops_core.server_state import crash_of, is_ready, lacks, replicas_told

READY = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}


def deployment(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {**READY, **status}}


def pod(kind: str = "containerStatuses", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": {kind: [{"name": "server", "restartCount": 0, "state": {}, **status}]}}


def test_a_deployment_was_ready_before_it_was() -> None:
    assert is_ready(deployment())
    assert not is_ready({"metadata": {"generation": 1}, "spec": {"replicas": 1}})


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 1},  # nobody has read the new plan yet
        {"readyReplicas": 1},
        {"updatedReplicas": 1},
        {"replicas": 3},  # one of the plan before still answers
    ],
)
def test_an_old_plan_or_half_of_the_replicas_counted_as_ready(status: dict[str, int]) -> None:
    assert not is_ready(deployment(**status))


def test_a_server_that_ends_again_and_again_was_waited_for() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no such file"}}
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}
    crash = crash_of([pod(), pod(restartCount=2, state=waits, lastState=ended)])
    assert crash is not None and (crash.exit_code, crash.words) == (1, "no such file")
    assert str(crash) == "server in p ended again and again (exit code 1)"
    assert crash_of([pod("initContainerStatuses", restartCount=3, state=ended)]) is not None
    killed = crash_of(
        [pod(restartCount=2, state=waits, lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})]
    )
    assert "(OOMKilled)" in str(killed)


def test_one_restart_long_ago_was_called_a_crash() -> None:
    assert crash_of([pod(restartCount=9, state={"running": {}}), pod(restartCount=1, state={"waiting": {}})]) is None


def test_what_the_cluster_lacks_was_not_told() -> None:
    image = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    assert lacks(deployment(), [pod(state=image)]) == "image_not_pulled: ImagePullBackOff: not found"
    quota = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    assert lacks(deployment(conditions=[quota]), []) == "FailedCreate: exceeded quota"
    assert (
        lacks(deployment(), [pod()]) == "" and replicas_told(deployment(readyReplicas=1)) == "1 of 2 replicas are ready"
    )
