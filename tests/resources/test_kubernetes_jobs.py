"""The Kubernetes door beside what clusters do to jobs: on the API's stand-in, with pods that tests play."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import AssetExecutionContext, DagsterInstance, RetryPolicy, asset, materialize
from dagster._core.errors import DagsterExecutionInterruptedError
from kubernetes.client import BatchV1Api

from llmops_core.errors import (
    EnvironmentLacks,
    GateRefused,
    InputError,
    IntegrityError,
    Interrupted,
    TransientError,
)
from llmops_core.job_names import RUN_LABEL
from llmops_core.job_outcomes import End, Outcome
from llmops_core.job_settings import GpuPool
from resources.cluster.kubernetes_api import JOBS, PODS
from resources.home import Home
from resources.jobs import job_attempt
from resources.jobs.job_run import DagsterWaitingRun
from resources.jobs.jobs import LocalJobs
from resources.jobs.kubernetes_jobs import KubernetesJobs
from resources.wiring import Platform, build_platform
from tests.fakes import job_worlds
from tests.fakes.job_pods import PlayedPod
from tests.fakes.job_worlds import BUCKET, NAMESPACE, ClusterWorld, Going, Killed, Ran
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.kubernetes_kinds import JOBS as STORED_JOBS
from tests.fakes.kubernetes_kinds import SERVICES as STORED_SERVICES
from tests.fakes.memory_s3 import STORES, MemoryS3

GPUS = {"a100": {"node_selector": {"gpu": "a100"}, "price_per_hour": 3600.0}}


@pytest.fixture
def cluster() -> Iterator[KubernetesApi]:
    with KubernetesApi() as api:
        api.create_namespace(NAMESPACE)
        yield api


@pytest.fixture
def world(cluster: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterWorld]:
    """A namespace without jobs, and a store of its own; no pause is long."""
    monkeypatch.setattr(job_worlds, "REPORT_SECONDS", 0.02)
    monkeypatch.setattr("resources.jobs.kubernetes_jobs.LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("resources.jobs.job_watch.JOBS_LIST_SECONDS", 0.1)
    MemoryS3(tmp_path.name)
    yield ClusterWorld(tmp_path, cluster, tmp_path.name, gpus=GPUS)


def finished(world: ClusterWorld, attempt: int, going: Going) -> Ran:
    """The attempt's pod makes its result and ends."""
    pod = world.pod(attempt)
    pod.publishes({"answer.txt": "42"})
    pod.ends()
    return going.ended()


def outcomes(world: ClusterWorld) -> list[str]:
    """Of all attempts, in order, as they are written down."""
    (fingerprint,) = {each["metadata"]["annotations"]["llmops.dev/fingerprint"] for each in world.job_objects} or {""}
    attempts = world.store().job(fingerprint).attempts()
    return [each.end["outcome"] if each.end else "open" for each in attempts]


def until(true: Callable[[], bool], timeout_seconds: float = 10) -> None:
    end = time.monotonic() + timeout_seconds
    while not true():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.005)


def succeeded(ran: Ran) -> bool:
    return ran.errors == [] and (ran.out / "answer.txt").read_text() == "42"


LOSSES: dict[str, tuple[Callable[[KubernetesApi, Any], None], str]] = {
    "preempted": (lambda api, pod: api.kubelet.preempt(pod), "preempted"),
    "evicted": (lambda api, pod: api.kubelet.evict(pod), "evicted"),
    "drained": (lambda api, pod: api.kubelet.drain(pod), "evicted"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_the_cluster_took_was_not_done_again(world: ClusterWorld, loss: str) -> None:
    take, outcome = LOSSES[loss]
    going = world.following()
    until(lambda: world.api.watches.open > 0)
    take(world.api, world.pod().pod)
    assert succeeded(finished(world, 2, going))
    assert outcomes(world) == [outcome, "succeeded"]


def test_a_lost_node_was_waited_for_for_ever(world: ClusterWorld) -> None:
    world.api.nodes.add("spot", gpus=8, labels={"gpu": "a100"})
    going = world.following(gpus=(1, "a100"))
    assert world.pod().pod["spec"]["nodeName"] == "spot"
    until(lambda: world.api.watches.open > 0)  # nobody can tell what was gone before anybody looked
    world.api.nodes.remove("spot")
    world.api.nodes.add("spot-2", gpus=8, labels={"gpu": "a100"})
    assert succeeded(finished(world, 2, going))
    assert outcomes(world) == ["node_lost", "succeeded"]
    bills = {each.attempt: each for each in world.spent}
    assert [bills[attempt].outcome for attempt in (1, 2)] == ["node_lost", "succeeded"]
    assert all(each.price_per_hour == 3600 and each.gpu_count == 1 for each in bills.values())


def test_a_node_that_never_answers_held_the_job(world: ClusterWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pod is marked for deletion and stays, since no kubelet ends it."""
    monkeypatch.setattr(job_attempt, "STUCK_SECONDS", -1000.0)
    world.api.nodes.add("mute", gpus=8, labels={"gpu": "a100"})
    going = world.following(gpus=(1, "a100"))
    world.pod()
    world.api.nodes.lose("mute")
    world.api.settle()
    world.api.clock.advance(301)
    world.api.nodes.add("other", gpus=8, labels={"gpu": "a100"})
    assert succeeded(finished(world, 2, going))
    assert outcomes(world) == ["node_lost", "succeeded"]
    for name in ("mute", "other"):
        world.api.nodes.remove(name)


def test_a_deleted_pod_was_waited_for_for_ever(world: ClusterWorld) -> None:
    going = world.following()
    pod = world.pod().pod
    world.client.delete(PODS, pod["metadata"]["name"], pod["metadata"]["uid"])
    (error,) = going.ended().errors
    assert isinstance(error, TransientError) and "pod_deleted" in str(error)


def test_a_deleted_job_was_waited_for_for_ever(world: ClusterWorld) -> None:
    going = world.following()
    world.pod()
    (job,) = world.job_objects
    world.client.delete(JOBS, job["metadata"]["name"], job["metadata"]["uid"])
    (error,) = going.ended().errors
    assert isinstance(error, TransientError) and ("lost" in str(error) or "pod_deleted" in str(error))


def test_memory_did_not_follow_the_ladder(world: ClusterWorld) -> None:
    world.place = world.place.model_copy(update={"memory_ladder_gb": (0.4, 1.0)})
    going = world.following()
    for attempt, limit in ((1, "500M"), (2, "1000M")):
        pod = world.pod(attempt)
        assert pod.pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == limit
        pod.ends(137, "OOMKilled", says=False)
    (error,) = going.ended().errors
    assert isinstance(error, EnvironmentLacks) and "memory_ladder_gb" in str(error) and "1 GB" in str(error)
    assert outcomes(world) == ["out_of_memory", "out_of_memory"]


def test_of_two_nodes_the_one_was_believed_that_only_lost_its_peer(world: ClusterWorld) -> None:
    """Its end is told first; that the other was killed for its memory comes a moment later."""
    world.place = world.place.model_copy(update={"gpus": {"a100": GpuPool(node_selector={"gpu": "a100"}, per_node=1)}})
    world.api.nodes.add("gpu-1", gpus=8, labels={"gpu": "a100"})
    going = world.following(gpus=(2, "a100"))

    def running() -> list[Any]:
        return [pod for pod in world.api.objects("pods", NAMESPACE) if pod["status"].get("phase") == "Running"]

    until(lambda: len(running()) == 2)
    world.api.engine.pause()  # the Job's controller, which would end the other too
    first, second = (PlayedPod(world.api, pod, world.store_place, world.root / "pods") for pod in running())
    first.ends(1, last_words="Connection closed by peer")
    time.sleep(0.3)
    second.ends(137, "OOMKilled", says=False)
    (error,) = going.ended().errors
    world.api.engine.resume()
    assert isinstance(error, EnvironmentLacks) and "ran out of memory" in str(error)


def test_an_image_that_is_not_there_was_waited_for_for_ever(world: ClusterWorld) -> None:
    world.api.kubelet.missing_images.add(world.place.image)
    (error,) = world.following().ended().errors
    assert isinstance(error, EnvironmentLacks) and "image_not_pulled" in str(error) and "not found" in str(error)
    world.api.settle()
    assert all(job["metadata"].get("deletionTimestamp") for job in world.job_objects)


def test_why_no_node_fits_was_not_told(world: ClusterWorld) -> None:
    going = world.following(gpus=(1, "a100"))
    (error,) = going.ended().errors
    assert isinstance(error, EnvironmentLacks) and "unschedulable" in str(error) and "selector" in str(error)
    assert [event for event in world.book.messages("run") if "waits: Unschedulable" in event]


def test_a_job_past_its_deadline_was_called_a_crash(world: ClusterWorld) -> None:
    going = world.following()
    world.pod()
    world.api.clock.advance(world.place.deadline_seconds + 1)
    (error,) = going.ended().errors
    assert isinstance(error, EnvironmentLacks) and "deadline_exceeded" in str(error)


def test_an_error_of_the_input_was_tried_again_on_the_cluster(world: ClusterWorld) -> None:
    going = world.following()
    world.pod().ends(65, last_words="reading\nrows.jsonl: line 3 is no object")
    (error,) = going.ended().errors
    assert isinstance(error, InputError) and error.problems[0].message == "rows.jsonl: line 3 is no object"
    assert len(world.job_objects) == 1


def dies(*_: Any) -> None:
    raise Killed


def test_a_retried_step_started_another_job_or_repeated_its_log(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    pod = world.pod()
    pod.prints("one\n")
    pod.reports(1, 3)
    assert isinstance(first.ended().errors[0], Killed)
    pod.prints("two\n")
    second = world.following()
    pod.prints("three\n")
    assert succeeded(finished(world, 1, second))
    told = world.book.messages("run")
    assert [told.count(line) for line in ("one", "two", "three")] == [1, 1, 1] and len(world.job_objects) == 1
    assert [line for line in told if line in ("one", "two", "three")] == ["one", "two", "three"]
    assert told.count("speaks 1/3, loss 0.5, 1 s left") == 1


def test_a_new_run_started_another_job_beside_one_that_goes_on(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    pod = world.pod()
    pod.prints("one\n")
    pod.reports(1, 3)
    first.ended()
    second = world.following(run="second")
    until(lambda: "goes on in" in "".join(world.book.messages("second")))
    ran = finished(world, 1, second)
    assert succeeded(ran) and "one" in ran.events
    (job,) = world.job_objects
    assert job["metadata"]["labels"][RUN_LABEL] == "second"


def test_a_job_that_goes_on_waited_for_gpus_that_it_has(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    world.pod().reports(1, 3)
    first.ended()
    assert world.admissions == ["begins", "asks"]
    assert succeeded(finished(world, 1, world.following(run="second")))
    assert world.admissions[2:] == ["goes", "ends"]


def test_a_new_run_was_given_the_old_failure(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    pod = world.pod()
    pod.reports(1, 3)
    first.ended()
    pod.ends(9)
    world.api.settle()
    assert succeeded(finished(world, 2, world.following(run="second")))
    assert outcomes(world) == ["crashed", "succeeded"]


def test_a_failure_that_nobody_wrote_down_was_lost_to_the_same_run(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    pod = world.pod()
    pod.reports(1, 3)
    first.ended()
    pod.ends(9)
    world.api.settle()
    (error,) = world.follow().errors
    assert isinstance(error, TransientError) and "exit code 9" in str(error) and len(world.job_objects) == 1
    assert succeeded(finished(world, 2, world.following()))


def test_a_worker_that_outlived_its_run_began_again_what_the_reaper_ended(world: ClusterWorld) -> None:
    """Its job would be ended again after its grace, and made again, for as long as the worker lives."""
    going = world.following()
    world.pod()
    world.book.over.add("run")
    (job,) = world.door().going()
    assert world.door().end(job, "run run is over")
    (error,) = going.ended().errors
    assert isinstance(error, Interrupted) and "run run is over" in str(error)
    assert world.admissions.count("asks") == 1 and world.door().going() == []


def test_a_worker_that_died_before_it_made_its_job_left_leave_to_begin(world: ClusterWorld) -> None:
    """Of the budget, and of GPUs that others have meanwhile."""
    world.api.faults.refuse(403, verb="create", resource="jobs", times=1)
    assert isinstance(world.follow().errors[0], EnvironmentLacks) and world.admissions == ["begins", "asks"]
    world.budget_is_spent = True
    assert isinstance(world.follow(run="second").errors[0], GateRefused) and world.job_objects == []
    assert world.admissions[2:] == ["begins", "asks"]
    world.budget_is_spent = False
    assert succeeded(finished(world, 1, world.following(run="third")))


@pytest.mark.parametrize("run", ["run", "second"])
def test_an_attempt_whose_job_was_deleted_was_made_again_without_a_word(world: ClusterWorld, run: str) -> None:
    """It has ended: its own run is told how, and another one makes an attempt of its own."""
    first = world.following(on_progress=dies)
    world.pod().reports(1, 3)
    first.ended()
    (job,) = world.job_objects
    world.client.delete(JOBS, job["metadata"]["name"], job["metadata"]["uid"])
    until(lambda: world.job_objects == world.api.objects("pods", NAMESPACE) == [])
    if run == "run":
        (error,) = world.follow(run=run).errors
        assert isinstance(error, TransientError) and ("lost" in str(error) or "pod_deleted" in str(error))
    assert succeeded(finished(world, 2, world.following(run=run)))
    assert world.admissions == ["begins", "asks", "begins", "asks", "ends"]


@pytest.mark.parametrize("run", ["run", "second"])
def test_pods_whose_job_was_taken_from_under_them_got_a_second_one_beside_them(world: ClusterWorld, run: str) -> None:
    first = world.following(on_progress=dies)
    pod = world.pod()
    pod.reports(1, 3)
    first.ended()
    (job,) = world.job_objects
    world.client.delete(JOBS, job["metadata"]["name"], job["metadata"]["uid"], propagation="Orphan")
    until(lambda: world.job_objects == [])
    going = world.following(run=run)
    pod.prints("it goes on\n")
    until(lambda: "it goes on" in world.book.messages(run))
    assert succeeded(finished(world, 1, going))
    assert world.job_objects == [] and len(world.api.objects("pods", NAMESPACE)) == 1


def test_what_was_taken_a_thousand_times_was_taken_once_too_often(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    pod = world.pod()
    pod.reports(1, 3)
    first.ended()
    pod.records.ended(1, End(Outcome.EVICTED, "told"), run_id="run")
    pod.records.intend(1500, pod.records.intent(1))
    pod.records.ended(1500, End(Outcome.EVICTED, "told"), run_id="run")
    going = world.following()
    until(lambda: world.api.watches.open > 0)
    world.api.kubelet.preempt(world.pod(1501).pod)
    assert succeeded(finished(world, 1502, going))


def test_a_result_was_refused_whose_attempt_the_lifecycle_took(world: ClusterWorld) -> None:
    """What was written when a job began is older than its result, and goes before it."""
    assert succeeded(finished(world, 1, world.following()))
    store = STORES[str(world.store_place.endpoint)]
    for bucket, key in [each for each in store.objects if "/attempts/" in each[1]]:
        store.delete_object(bucket, key)
    assert succeeded(world.follow(run="second"))


def test_a_result_was_made_twice(world: ClusterWorld) -> None:
    assert succeeded(finished(world, 1, world.following()))
    before = len(world.api.requests)
    assert succeeded(world.follow(run="second"))
    assert len(world.api.requests) == before


def test_a_result_was_lost_with_its_pod(world: ClusterWorld) -> None:
    going = world.following()
    pod = world.pod()
    pod.publishes({"answer.txt": "42"})
    pod.ends(137, "OOMKilled", says=False)
    assert succeeded(going.ended()) and outcomes(world) == ["succeeded"]


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_cancelled_run_left_its_job_or_a_stopped_worker_ended_it(world: ClusterWorld, cancelled: bool) -> None:
    def stop(*_: Any) -> None:
        if cancelled:
            world.book.cancelled.add("run")
        raise DagsterExecutionInterruptedError

    going = world.following(on_progress=stop)
    world.pod().reports(1, 3)
    assert isinstance(going.ended().errors[0], DagsterExecutionInterruptedError)
    world.api.settle()
    left = [job for job in world.job_objects if not job["metadata"].get("deletionTimestamp")]
    assert len(left) == (0 if cancelled else 1)


def test_a_job_in_a_queue_was_given_up(world: ClusterWorld) -> None:
    world.place = world.place.model_copy(update={"queue": "gpus", "pending_seconds": 0})
    going = world.following()
    until(lambda: "waits: in the queue gpus" in "".join(world.book.messages("run")))
    (job,) = world.job_objects
    BatchV1Api(world.api.client()).patch_namespaced_job(
        job["metadata"]["name"], NAMESPACE, {"spec": {"suspend": False}}
    )
    assert succeeded(finished(world, 1, going))


def test_a_job_in_a_queue_began_with_money_that_was_gone_meanwhile(
    world: ClusterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.jobs.kubernetes_jobs.ASK_AGAIN_SECONDS", 0.05)
    world.place = world.place.model_copy(update={"queue": "gpus"})
    going = world.following()
    until(lambda: "waits: in the queue gpus" in "".join(world.book.messages("run")))
    until(lambda: world.admissions.count("asks") > 2)
    assert going.goes
    world.budget_is_spent = True
    (error,) = going.ended().errors
    assert isinstance(error, GateRefused) and error.stage == "budget"
    until(lambda: world.job_objects == [])
    world.budget_is_spent = False
    second = world.following()
    until(lambda: len(world.job_objects) == 1)
    suspends(world, False)
    world.pod(2)
    world.budget_is_spent = True  # what goes on is not asked
    assert succeeded(finished(world, 2, second))


def suspends(world: ClusterWorld, suspend: bool) -> None:
    """As a queue does that takes a place away or gives it."""
    name = world.job_objects[0]["metadata"]["name"]
    BatchV1Api(world.api.client()).patch_namespaced_job(name, NAMESPACE, {"spec": {"suspend": suspend}})
    world.api.settle()


def test_a_pod_whose_place_was_taken_away_spoke_for_the_next(world: ClusterWorld) -> None:
    going = world.following()
    first = world.pod()
    until(lambda: world.api.watches.open > 0)
    first.records.say(1, first.uid, {"exit_code": 75, "last_words": "asked to end", "began": 1, "ended": 2})
    suspends(world, True)
    until(lambda: first.phase == "gone")
    suspends(world, False)
    until(lambda: world.pod().uid != first.uid)
    world.pod().ends(65, last_words="rows.jsonl: line 3 is no object")
    (error,) = going.ended().errors
    assert isinstance(error, InputError) and "line 3" in str(error) and len(world.job_objects) == 1


def test_the_name_of_other_work_was_taken_for_ours(world: ClusterWorld) -> None:
    going = world.following(on_progress=dies)
    world.pod().reports(1, 3)
    going.ended()
    (job,) = world.job_objects
    other = {**job["metadata"], "annotations": {"llmops.dev/fingerprint": "0" * 64}}
    world.api.store.put(STORED_JOBS, {**job, "metadata": other})
    (error,) = world.follow().errors
    assert isinstance(error, IntegrityError) and "other work" in str(error)


def test_the_service_of_somebody_else_was_taken_for_ours(world: ClusterWorld) -> None:
    world.place = world.place.model_copy(update={"gpus": {"a100": GpuPool(node_selector={"gpu": "a100"}, per_node=1)}})
    world.api.nodes.add("gpu-1", gpus=8, labels={"gpu": "a100"})
    world.api.engine.pause()
    going = world.following(gpus=(2, "a100"))
    until(lambda: len(world.job_objects) == 1)
    name = world.job_objects[0]["metadata"]["name"]
    until(lambda: world.api.get("services", name, NAMESPACE) is not None)
    service = world.api.get("services", name, NAMESPACE) or {}
    theirs = {"name": name, "labels": {"app": "theirs"}, "namespace": NAMESPACE}
    world.api.store.put(
        STORED_SERVICES, {**service, "metadata": {**service["metadata"], **theirs, "ownerReferences": []}}
    )
    (error,) = world.follow(run="second", gpus=(2, "a100")).errors
    assert isinstance(error, IntegrityError) and f"services {name} is there" in str(error)
    world.api.engine.resume()
    world.client.delete(JOBS, name, world.job_objects[0]["metadata"]["uid"])
    going.ended()


def test_a_job_that_only_bears_our_label_was_ended(world: ClusterWorld) -> None:
    container = {"name": "a", "image": world.place.image}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": "theirs", "labels": {"app.kubernetes.io/managed-by": "llmops-assets"}}
    world.client.create(
        JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}
    )
    assert world.door().going() == []


def test_the_reaper_left_a_job_or_ended_one_that_was_taken_over(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    world.pod().reports(1, 3)
    first.ended()
    door = world.door()
    (job,) = door.going()
    assert job.run_id == "run" and not door.end(replace(job, version="1"), "changed meanwhile")
    assert door.end(job, "run run is over") and not door.end(job, "again")
    world.api.settle()
    assert door.going() == [] and outcomes(world) in (["cancelled"], [])
    assert succeeded(finished(world, 2, world.following(run="second")))


def test_jobs_of_another_platform_were_ended_billed_or_taken_over(world: ClusterWorld) -> None:
    """Two platforms in one namespace: runs of the one are unknown to the other, and its records are elsewhere."""
    other = ClusterWorld(world.root / "other", world.api, world.s3, gpus=GPUS)
    first = other.following(on_progress=dies)
    other.pod().reports(1, 3)
    first.ended()
    assert len(other.door().going()) == 1 and world.door().going() == world.door().running() == []
    (error,) = world.follow().errors
    assert isinstance(error, IntegrityError) and f"s3://{BUCKET}/other" in str(error)
    assert succeeded(finished(other, 1, other.following()))
    assert len(other.door().ended()) == 1 and world.door().ended() == []


def test_a_job_that_somebody_copied_stopped_the_reaper(world: ClusterWorld) -> None:
    first = world.following(on_progress=dies)
    world.pod().reports(1, 3)
    first.ended()
    (job,) = world.job_objects
    metadata = {name: dict(job["metadata"][name]) for name in ("labels", "annotations")}
    for name, labels in (("copy", {}), (job["metadata"]["name"] + "-x", {"llmops.dev/attempt": "first"})):
        copied = {**metadata, "name": name, "labels": {**metadata["labels"], **labels}}
        template = {"spec": job["spec"]["template"]["spec"]}
        world.client.create(
            JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": copied, "spec": {"template": template}}
        )
    assert [each.name for each in world.door().going()] == [job["metadata"]["name"]]


def test_an_outage_of_the_cluster_ended_a_job_that_went_on(world: ClusterWorld) -> None:
    going = world.following()
    pod = world.pod()
    with world.api.outage():
        pod.prints("said while nobody could ask\n")
        time.sleep(0.3)
    assert succeeded(finished(world, 1, going)) and "said while nobody could ask" in going.ended().events
    assert len(world.job_objects) == 1


FAULTS: dict[str, Callable[[KubernetesApi], None]] = {
    "a lost answer to create": lambda api: api.faults.lose_answer(verb="create", resource="jobs"),
    "errors": lambda api: api.faults.refuse(500, times=3),
    "too many requests": lambda api: api.faults.refuse(429, times=2),
    "a slow list": lambda api: api.faults.slow(0.3, verb="list"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_api_became_one_of_the_job(world: ClusterWorld, fault: str) -> None:
    FAULTS[fault](world.api)
    assert succeeded(finished(world, 1, world.following()))
    assert len(world.job_objects) == 1 and world.api.faults.served


def test_a_watch_that_was_cut_or_expired_was_the_last(world: ClusterWorld) -> None:
    going = world.following()
    world.pod()
    until(lambda: world.api.watches.open > 0)
    world.api.forget_history()
    world.api.faults.drop_watches()
    until(lambda: world.api.watches.opened > 1)
    assert succeeded(finished(world, 1, going))


def test_rights_that_are_missing_were_waited_for(world: ClusterWorld) -> None:
    world.api.faults.refuse(403, verb="create", resource="jobs", times=None)
    (error,) = world.follow().errors
    assert isinstance(error, EnvironmentLacks) and "give the platform this right" in str(error)


def test_a_field_that_the_server_does_not_know_was_dropped_in_silence(world: ClusterWorld) -> None:
    with pytest.raises(InputError, match="surprise"):
        world.client.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "surprise": 1})
    assert all("fieldValidation=Strict" in path for method, path in world.api.requests if method in ("POST", "PATCH"))


def test_every_job_had_a_watch_of_its_own(world: ClusterWorld) -> None:
    door = world.door()
    going = [world.following(door=door, number=number) for number in range(8)]
    until(lambda: len([pod for pod in world.api.objects("pods", NAMESPACE) if pod["status"].get("startTime")]) == 8)
    assert world.api.watches.opened == 1
    for pod in world.api.objects("pods", NAMESPACE):
        played = PlayedPod(world.api, pod, world.store_place, world.root / "pods")
        played.publishes({"answer.txt": "42"})
        played.ends()
    assert all(succeeded(each.ended()) for each in going) and world.api.watches.opened == 1


def test_a_run_forgot_what_it_had_shown() -> None:
    """Of Dagster, when its step is tried again."""
    heard: list[list[tuple[Any, ...]]] = []

    @asset(retry_policy=RetryPolicy(max_retries=1))
    def made(context: AssetExecutionContext) -> None:
        run = DagsterWaitingRun(context)
        heard.append(list(run.heard()))
        assert not run.is_cancelled() and not run.is_over() and run.pipes_context()["run_id"] == run.id
        run.show("a line", {"cost": 1.5}, heard=("job", "pod", "log", len(heard)))
        if len(heard) == 1:
            raise ValueError("once more")

    with DagsterInstance.ephemeral() as instance:
        done = materialize([made], instance=instance)
        assert done.success and [len(each) for each in heard] == [0, 1]
        assert heard[1] == [("job", "pod", "log", 1)]
        assert [e.message for e in instance.all_logs(done.run_id)].count("a line") == 2
        context = SimpleNamespace(run=done.dagster_run, instance=instance)
        assert DagsterWaitingRun(context).is_over(), "it may begin what nobody waits for"  # type: ignore[arg-type]


def test_settings_chose_another_door_or_none_was_told_of(
    cluster: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doors(environment: str) -> Platform:
        return build_platform(Home(job_worlds.ROOT, job_worlds.ROOT / ".llmops", 20000, environment))

    monkeypatch.setenv("KUBECONFIG", cluster.kubeconfig)
    jobs = doors("production").jobs
    assert isinstance(jobs, KubernetesJobs) and jobs.going() == []
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with pytest.raises(EnvironmentLacks, match="KUBECONFIG"):
        doors("production").jobs  # noqa: B018
    assert isinstance(doors("local").jobs, LocalJobs)
