"""What the Kubernetes door bills: every second of every pod that had GPUs, once, whoever is there when it ends."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import BatchV1Api

from llmops_core.cost import RUNNING, Bill
from llmops_core.errors import GateRefused
from resources.cluster.kubernetes_api import JOBS, PODS
from tests.fakes import job_worlds
from tests.fakes.job_pods import PlayedPod
from tests.fakes.job_worlds import NAMESPACE, ClusterWorld, Killed
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.kubernetes_kinds import PODS as STORED_PODS
from tests.fakes.memory_s3 import STORES, MemoryS3
from tests.resources.test_kubernetes_jobs import dies, finished, until

ON_GPUS: dict[str, Any] = {"gpus": (2, "a100")}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterWorld]:
    monkeypatch.setattr(job_worlds, "REPORT_SECONDS", 0.02)
    monkeypatch.setattr("resources.jobs.job_watch.JOBS_LIST_SECONDS", 0.1)
    MemoryS3(tmp_path.name)
    with KubernetesApi() as api:
        api.create_namespace(NAMESPACE)
        api.nodes.add("gpus", gpus=8, labels={"gpu": "a100"})
        pool = {"node_selector": {"gpu": "a100"}, "price_per_hour": 3.6}
        yield ClusterWorld(tmp_path, api, tmp_path.name, gpus={"a100": pool})


def began(world: ClusterWorld, pod: PlayedPod, seconds_ago: float) -> None:
    """As if the pod's container had started so long ago."""
    found = world.api.get("pods", pod.pod["metadata"]["name"], NAMESPACE)
    assert found is not None
    (status,) = found["status"]["containerStatuses"]
    (state,) = status["state"].values()
    state["startedAt"] = f"{datetime.now(UTC) - timedelta(seconds=seconds_ago):%Y-%m-%dT%H:%M:%SZ}"
    world.api.store.put(STORED_PODS, found)


def seconds(world: ClusterWorld) -> dict[int, float]:
    """GPU-seconds of each attempt; an attempt has one bill, however often it is told."""
    found: dict[int, set[float]] = {}
    for spent in world.spent:
        found.setdefault(spent.attempt, set()).add(spent.gpu_seconds)
    assert all(len(told) == 1 for told in found.values()), found
    return {number: told.pop() for number, told in found.items()}


def left(world: ClusterWorld, seconds_ago: float, **asked: Any) -> PlayedPod:
    """A pod whose worker died."""
    going = world.following(on_progress=dies, **ON_GPUS, **asked)
    pod = world.pod()
    began(world, pod, seconds_ago)
    pod.reports(1, 2)
    assert isinstance(going.ended().errors[0], Killed)
    return pod


def close(bill: float, wanted: float) -> bool:
    return wanted - 3 < bill < wanted + 20


def test_a_job_was_billed_by_nothing(world: ClusterWorld) -> None:
    going = world.following(**ON_GPUS)
    began(world, world.pod(), 100)
    assert finished(world, 1, going).errors == []
    assert close(seconds(world)[1], 200)
    (bill, *_) = world.spent
    assert (bill.gpu_count, bill.gpu_type, round(bill.cost * 1000)) == (2, "a100", round(bill.gpu_seconds))


def test_what_another_run_had_left_failed_for_nothing(world: ClusterWorld) -> None:
    pod = left(world, 100)
    pod.ends(9)
    world.api.settle()
    assert finished(world, 2, world.following(run="second", **ON_GPUS)).errors == []
    assert close(seconds(world)[1], 200) and seconds(world)[2] < 20


def test_a_job_that_is_attached_to_was_billed_again(world: ClusterWorld) -> None:
    left(world, 100)
    assert finished(world, 1, world.following(run="second", **ON_GPUS)).errors == []
    assert world.follow(run="third", **ON_GPUS).errors == []
    assert close(seconds(world)[1], 200) and {each.key for each in world.spent} == {world.spent[0].key}


def test_a_job_that_the_reaper_ended_was_for_nothing(world: ClusterWorld) -> None:
    left(world, 100)
    bills: list[Bill] = []
    (job,) = world.door().going()
    assert world.door().end(job, "run run is over", bills.append)
    (bill,) = bills
    assert (bill.asked.model, bill.asked.stage, bill.asked.fingerprint) == ("tiny", "weights", "f" * 64)
    assert bill.spent.outcome == "cancelled" and close(bill.spent.gpu_seconds, 200)
    world.api.settle()
    assert finished(world, 2, world.following(run="second", **ON_GPUS)).errors == []
    assert seconds(world)[1] == bill.spent.gpu_seconds
    assert bill.spent.key in {each.key for each in world.spent if each.attempt == 1}


def test_a_job_that_ended_when_nobody_looked_was_for_nothing(world: ClusterWorld) -> None:
    pod = left(world, 100)
    assert world.door().ended() == []
    pod.ends(9)
    world.api.settle()
    (job,) = world.door().ended()
    bill = world.door().bill(job)
    assert bill is not None and bill.spent.outcome == "crashed" and close(bill.spent.gpu_seconds, 200)
    assert bill.spent.job == job.name and bill.asked.stage == "weights"
    assert finished(world, 2, world.following(run="second", **ON_GPUS)).errors == []
    assert {each.key for each in world.spent if each.attempt == 1} == {bill.spent.key}


def test_work_that_was_done_again_was_for_nothing(world: ClusterWorld) -> None:
    """The store's lifecycle removes what is known of a job, and the cluster its Job; the next has its name."""
    assert finished(world, 1, world.following(**ON_GPUS)).errors == []
    store = STORES[str(world.store_place.endpoint)]
    for bucket, key in [each for each in store.objects if "/jobs/" in each[1]]:
        store.delete_object(bucket, key)
    (job,) = world.job_objects
    world.client.delete(JOBS, job["metadata"]["name"], job["metadata"]["uid"])
    until(lambda: world.job_objects == world.api.objects("pods", NAMESPACE) == [])
    first = {each.key for each in world.spent}
    assert finished(world, 1, world.following(**ON_GPUS)).errors == []
    assert len({each.job for each in world.spent}) == 1
    assert len(first) == 1 and len({each.key for each in world.spent} - first) == 1


def test_what_goes_on_when_its_job_was_billed_and_removed_was_for_nothing(world: ClusterWorld) -> None:
    """An attempt has one bill: work that is done again is another attempt."""
    pod = left(world, 100)
    pod.ends(9)
    world.api.settle()
    (job,) = world.door().ended()
    bill = world.door().bill(job)
    assert [each.end and each.end["outcome"] for each in pod.records.attempts()] == ["crashed"]
    world.client.delete(JOBS, job.name, job.uid)  # its time to live is over
    until(lambda: world.job_objects == world.api.objects("pods", NAMESPACE) == [])
    assert finished(world, 2, world.following(run="second", **ON_GPUS)).errors == []
    assert bill is not None and bill.spent.key in {each.key for each in world.spent if each.attempt == 1}
    assert world.admissions == ["begins", "asks", "begins", "asks", "ends"]


def test_what_was_taken_was_done_again_with_money_that_is_not_there(world: ClusterWorld) -> None:
    going = world.following(**ON_GPUS)
    until(lambda: world.api.watches.open > 0)
    pod = world.pod()
    world.budget_is_spent = True
    world.api.kubelet.preempt(pod.pod)
    (error,) = going.ended().errors
    assert isinstance(error, GateRefused) and world.admissions == ["begins", "asks", "asks"]
    assert len(world.job_objects) == 1 and {each.outcome for each in world.spent} == {"preempted"}
    world.budget_is_spent = False
    assert finished(world, 2, world.following(**ON_GPUS)).errors == []


def test_a_job_was_ended_by_the_budget_that_it_spends_or_its_result_was_locked_up(world: ClusterWorld) -> None:
    left(world, 100)
    world.budget_is_spent = True
    assert finished(world, 1, world.following(run="second", **ON_GPUS)).errors == []
    ran = world.follow(run="third", **ON_GPUS)
    assert ran.errors == [] and (ran.out / "answer.txt").read_text() == "42"
    assert world.admissions.count("asks") == 1


def test_time_before_a_suspension_was_for_nothing(world: ClusterWorld) -> None:
    going = world.following(**ON_GPUS)
    began(world, world.pod(), 100)
    until(lambda: world.api.watches.open > 0)
    (job,) = world.job_objects
    batch = BatchV1Api(world.api.client())
    batch.patch_namespaced_job(job["metadata"]["name"], NAMESPACE, {"spec": {"suspend": True}})
    until(lambda: world.api.objects("pods", NAMESPACE) == [])
    batch.patch_namespaced_job(job["metadata"]["name"], NAMESPACE, {"spec": {"suspend": False}})
    until(lambda: len(world.api.objects("pods", NAMESPACE)) == 1)
    began(world, world.pod(), 50)
    assert finished(world, 1, going).errors == []
    assert close(seconds(world)[1], 300)


def test_a_pod_that_went_when_nobody_looked_was_for_nothing(world: ClusterWorld) -> None:
    """What it wrote into the store tells from when until when it ran."""
    pod = left(world, 100)
    store = STORES[str(world.store_place.endpoint)]
    for key in store.modified:
        if pod.uid in key[1]:
            store.modified[key] = datetime.now(UTC) - timedelta(seconds=70)
    pod.prints("a line\n")
    world.client.delete(PODS, pod.pod["metadata"]["name"], pod.uid)
    until(lambda: world.api.objects("pods", NAMESPACE) == [])
    (error,) = world.follow(**ON_GPUS).errors
    assert "pod_deleted" in str(error) or "lost" in str(error)
    assert close(seconds(world)[1], 140)


def test_what_runs_now_cost_nothing_yet(world: ClusterWorld) -> None:
    assert world.door().running() == []
    left(world, 100)
    (bill,) = world.door().running()
    assert (bill.spent.outcome, bill.asked.model) == (RUNNING, "tiny") and close(bill.spent.gpu_seconds, 200)
