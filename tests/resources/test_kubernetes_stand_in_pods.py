"""Controllers, scheduler and kubelet of the stand-in. States of jobs and words of events are those of a controller
manager and scheduler of version 1.36; what the kubelet does is simulated from its documentation."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from llmops_core.job_names import MANAGED_BY, MANAGER, NAME_LABEL
from llmops_core.job_outcomes import is_over
from resources.cluster.kubernetes_api import KubernetesApi as Client
from resources.jobs.job_watch import JobWatch
from tests.fakes.kubernetes_api import COMMAND, KubernetesApi, Plan
from tests.resources.kubernetes_samples import conditions, deployment, job

Json = dict[str, Any]


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as api:
        api.kubelet.image_environment = {"PATH": os.environ["PATH"]}
        yield api


@pytest.fixture
def batch(api: KubernetesApi) -> Iterator[client.BatchV1Api]:
    with api.client() as connection:
        yield client.BatchV1Api(connection)


def status(api: KubernetesApi, name: str) -> Json:
    api.settle()
    return (api.get("jobs", name) or {})["status"]


def reasons(api: KubernetesApi, about: str) -> list[str]:
    return [event["reason"] for event in api.events(about=about)]


def wait_for(found: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def log(api: KubernetesApi, pod: Json, **asked: Any) -> str:
    with api.client() as connection:
        read = client.CoreV1Api(connection).read_namespaced_pod_log
        return read(pod["metadata"]["name"], "default", _preload_content=False, **asked).data.decode()


def test_a_job_that_succeeded_was_not_counted(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a"))
    assert status(api, "a") | {"startTime": ""} == {
        "active": 1,
        "ready": 1,
        "startTime": "",
        "terminating": 0,
        "uncountedTerminatedPods": {},
    }
    api.kubelet.end(api.pod_of("a"))
    ended = status(api, "a")
    assert ended["succeeded"] == 1 and "active" not in ended and "completionTime" in ended
    assert conditions({"status": ended}) == ["SuccessCriteriaMet", "Complete"]
    assert reasons(api, "a") == ["SuccessfulCreate", "Completed"]


def test_running_out_of_memory_looked_like_any_crash(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a"))
    api.settle()
    api.kubelet.end(api.pod_of("a"), 137, "OOMKilled")
    ended = status(api, "a")
    assert conditions({"status": ended}) == ["FailureTarget", "Failed"] and ended["failed"] == 1
    assert ended["conditions"][-1]["reason"] == "BackoffLimitExceeded"
    (state,) = [one["state"] for one in api.pod_of("a")["status"]["containerStatuses"]]
    assert (state["terminated"]["exitCode"], state["terminated"]["reason"]) == (137, "OOMKilled")


def test_a_deleted_pod_was_no_failure_of_its_job(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a"))
    api.settle()
    with api.client() as connection:
        client.CoreV1Api(connection).delete_namespaced_pod(api.pod_of("a")["metadata"]["name"], "default")
    assert conditions({"status": status(api, "a")}) == ["FailureTarget", "Failed"]
    assert api.pods_of("a") == []


def test_a_deadline_passed_unnoticed(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a", activeDeadlineSeconds=60))
    assert conditions({"status": status(api, "a")}) == []
    api.clock.advance(61)
    ended = status(api, "a")
    assert ended["conditions"][-1]["reason"] == "DeadlineExceeded" and api.pods_of("a") == []
    assert reasons(api, "a") == ["SuccessfulCreate", "SuccessfulDelete", "DeadlineExceeded"]


def test_pods_of_a_deleted_job_burned_on_or_were_lost(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    for name in ("foreground", "background", "orphan"):
        batch.create_namespaced_job("default", job(name))
    api.settle()
    batch.delete_namespaced_job("foreground", "default", propagation_policy="Foreground")
    batch.delete_namespaced_job("background", "default", propagation_policy="Background")
    _, _, headers = batch.delete_namespaced_job_with_http_info("orphan", "default")
    assert "child pods are preserved by default" in headers["Warning"]
    api.settle()
    (left,) = api.objects("pods", "default")
    assert left["metadata"]["name"].startswith("orphan-") and "ownerReferences" not in left["metadata"]


def test_a_finished_job_stayed_for_ever(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a", ttlSecondsAfterFinished=100))
    api.settle()
    api.kubelet.end(api.pod_of("a"))
    api.settle()
    api.clock.advance(101)
    api.settle()
    assert api.get("jobs", "a") is None and api.objects("pods", "default") == []


def test_a_failed_pod_was_replaced_at_once(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a", backoffLimit=1))
    api.settle()
    api.kubelet.end(api.pod_of("a"), 1)
    assert len(api.pods_of("a")) == 1 and conditions({"status": status(api, "a")}) == []
    api.clock.advance(10.1)
    api.settle()
    assert len(api.pods_of("a")) == 2


def test_indexes_of_a_job_were_given_twice(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a", completionMode="Indexed", completions=3, parallelism=2))
    api.settle()
    assert sorted(pod["spec"]["hostname"] for pod in api.pods_of("a")) == ["a-0", "a-1"]
    for pod in api.pods_of("a"):
        api.kubelet.end(pod)
    api.settle()
    api.kubelet.end(api.pod_of("a"))
    assert status(api, "a")["completedIndexes"] == "0-2"


def test_suspending_a_job_failed_it(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a", suspend=True))
    assert conditions({"status": status(api, "a")}) == ["Suspended"] and api.pods_of("a") == []
    batch.patch_namespaced_job("a", "default", {"spec": {"suspend": False}})
    assert status(api, "a")["active"] == 1
    batch.patch_namespaced_job("a", "default", {"spec": {"suspend": True}})
    assert "failed" not in status(api, "a") and api.pods_of("a") == []
    assert sorted(reasons(api, "a")) == ["Resumed", "SuccessfulCreate", "SuccessfulDelete", "Suspended"]


def test_a_pod_that_fits_nowhere_said_nothing(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": 8}}}
    batch.create_namespaced_job("default", job("a", container=limits))
    api.settle()
    batch.create_namespaced_job("default", job("b", container=limits))
    api.settle()
    (told,) = api.pod_of("b")["status"]["conditions"]
    assert (told["type"], told["status"], told["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert told["message"] == (
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    api.kubelet.end(api.pod_of("a"))
    api.settle()
    assert api.pod_of("b")["spec"]["nodeName"] == "node-1"


def test_a_pod_that_may_not_be_made_was_waited_for(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a", pod={"priorityClassName": "nope"}))
    assert "active" not in status(api, "a")
    (event,) = api.events(about="a")
    assert event["reason"] == "FailedCreate"
    assert event["message"] == 'Error creating: pods "a-" is forbidden: no PriorityClass with name nope was found'


def test_an_image_that_is_missing_ran(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    api.kubelet.missing_images.add("img:1")
    batch.create_namespaced_job("default", job("a"))
    api.settle()
    api.clock.advance(2)
    api.settle()
    (state,) = [one["state"] for one in api.pod_of("a")["status"]["containerStatuses"]]
    assert state["waiting"]["reason"] == "ImagePullBackOff" and api.pod_of("a")["status"]["phase"] == "Pending"
    with pytest.raises(ApiException, match="trying and failing to pull image"):
        log(api, api.pod_of("a"))
    api.kubelet.missing_images.clear()
    api.clock.advance(20)
    api.settle()
    assert api.pod_of("a")["status"]["phase"] == "Running"


@pytest.mark.parametrize(
    ("how", "reason"),
    [("evict", "TerminationByKubelet"), ("preempt", "PreemptionByScheduler"), ("drain", "EvictionByEvictionAPI")],
)
def test_a_disruption_did_not_say_that_it_was_one(
    api: KubernetesApi, batch: client.BatchV1Api, how: str, reason: str
) -> None:
    body = job("a")
    body["spec"]["template"]["metadata"]["finalizers"] = ["example.com/seen"]
    batch.create_namespaced_job("default", body)
    api.settle()
    getattr(api.kubelet, how)(api.pod_of("a"))
    api.settle()
    pod = api.pod_of("a") if how == "evict" else api.store.history[-1].found
    told = [each for each in api.store.history if each.found["kind"] == "Pod"][-1].found
    assert pod is not None and told["status"]["phase"] == "Failed"
    (disrupted,) = [one for one in told["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert disrupted["reason"] == reason and conditions({"status": status(api, "a")})[-1] == "Failed"


def test_pods_of_a_lost_node_ended_at_once_or_never(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a"))
    api.settle()
    api.nodes.lose("node-1")
    api.settle()
    assert api.pod_of("a")["status"]["phase"] == "Running"
    api.clock.advance(301)
    api.settle()
    assert "deletionTimestamp" in api.pod_of("a")["metadata"]
    assert conditions({"status": status(api, "a")}) == ["FailureTarget"]
    api.nodes.remove("node-1")
    assert conditions({"status": status(api, "a")})[-1] == "Failed" and api.pods_of("a") == []


def test_a_command_did_not_see_its_own_environment_only(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    api.kubelet.plan = lambda pod: COMMAND
    secret = {"metadata": {"name": "s"}, "stringData": {"key": "hidden"}}
    api.put("secrets", {"apiVersion": "v1", "kind": "Secret", **secret})
    variables = [
        {"name": "PLAIN", "value": "plain"},
        {"name": "BOTH", "value": "$(PLAIN)-$(NONE)"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
    ]
    mount = {"volumeMounts": [{"name": "work", "mountPath": "/work"}], "env": variables}
    script = "echo $BOTH $SECRET $HOME; echo out > $0/file; ls $0; exit 3"
    pod = {"volumes": [{"name": "work", "emptyDir": {}}]}
    batch.create_namespaced_job("default", job("a", ["sh", "-c", script, "/work"], container=mount, pod=pod))
    wait_for(lambda: "Failed" in conditions(api.get("jobs", "a") or {}))
    assert log(api, api.pod_of("a")) == "plain-$(NONE) hidden\nfile\n"
    (state,) = [one["state"] for one in api.pod_of("a")["status"]["containerStatuses"]]
    assert state["terminated"]["exitCode"] == 3


def test_a_process_outlived_its_pod(api: KubernetesApi, batch: client.BatchV1Api, tmp_path: Path) -> None:
    api.kubelet.plan = lambda pod: COMMAND
    # a shell that is asked to end while it makes a child may not hear it: this one looks again soon
    waits = f"trap 'echo asked; exit 0' TERM; touch {tmp_path}/trapped; while :; do sleep 0.05; done"
    batch.create_namespaced_job("default", job("a", ["sh", "-c", waits]))
    wait_for(lambda: api.pods_of("a") and api.pod_of("a")["status"]["phase"] == "Running")
    wait_for((tmp_path / "trapped").exists)
    pids = [each.process.pid for run in api.kubelet._runs.values() for each in run.running.values()]
    batch.delete_namespaced_job("a", "default", propagation_policy="Foreground")
    wait_for(lambda: api.get("jobs", "a") is None)
    assert pids and not any(os.path.exists(f"/proc/{pid}") for pid in pids)  # noqa: PTH110


def test_what_a_container_had_started_outlived_it(api: KubernetesApi, batch: client.BatchV1Api, tmp_path: Path) -> None:
    """Its first process ends, and all others of the container with it: on a node nothing is left of them."""
    api.kubelet.plan = lambda pod: COMMAND
    leaves = f"sleep 60 & echo $! > {tmp_path}/pid; exit 3"
    batch.create_namespaced_job("default", job("a", ["sh", "-c", leaves]))
    wait_for(lambda: "Failed" in conditions(api.get("jobs", "a") or {}))
    left = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    wait_for(lambda: not left.exists() or left.read_text().split()[2] == "Z")


def test_a_process_kept_more_memory_than_it_may(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    api.kubelet.plan = lambda pod: COMMAND
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    takes = ["python3", "-c", "x = bytearray(200_000_000); import time; time.sleep(60)"]
    batch.create_namespaced_job("default", job("a", takes, container=limits))
    wait_for(lambda: "Failed" in conditions(api.get("jobs", "a") or {}))
    (state,) = [one["state"] for one in api.pod_of("a")["status"]["containerStatuses"]]
    assert state["terminated"]["reason"] == "OOMKilled"


def test_lines_of_a_followed_log_came_late_or_twice(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a"))
    api.settle()
    pod = api.pod_of("a")
    api.kubelet.say(pod, "one", "two")
    with api.client() as connection:
        read = client.CoreV1Api(connection).read_namespaced_pod_log
        stream = read(pod["metadata"]["name"], "default", follow=True, timestamps=True, _preload_content=False)
        first = [stream.readline().decode() for _ in range(2)]
        api.kubelet.say(pod, "three")
        assert stream.readline().decode().endswith(" three\n")
        api.kubelet.end(pod)
        assert stream.readline() == b""
    assert [line.split(" ", 1)[1] for line in first] == ["one\n", "two\n"] and first[0] < first[1]
    assert log(api, pod, tail_lines=1) == "three\n"


def test_a_rollout_took_the_old_pods_away_before_the_new_were_ready(api: KubernetesApi) -> None:
    with api.client() as connection:
        apps = client.AppsV1Api(connection)
        apps.create_namespaced_deployment("default", deployment("d", "i:1"))
        api.settle()
        api.kubelet.missing_images.add("i:2")
        change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "i:2"}]}}}}
        apps.patch_namespaced_deployment("d", "default", change)
        api.settle()
        ready = apps.read_namespaced_deployment_status("d", "default").status
        assert (ready.ready_replicas, ready.updated_replicas, ready.unavailable_replicas) == (2, 1, 1)
        api.kubelet.missing_images.clear()
        api.clock.advance(30)
        api.settle()
        done = apps.read_namespaced_deployment_status("d", "default").status
    assert (done.ready_replicas, done.updated_replicas, done.replicas) == (2, 2, 2)
    assert {pod["spec"]["containers"][0]["image"] for pod in api.objects("pods", "default")} == {"i:2"}


def test_of_500_jobs_one_was_lost_done_twice_or_watched_alone(api: KubernetesApi) -> None:
    """By a process that waits for all of them."""
    api.kubelet.plan = lambda pod: Plan(seconds=0.01)
    watch = JobWatch(Client(api.client(), "default"))
    names = [f"j{number}" for number in range(500)]
    with ExitStack() as waiting:
        for name in names:
            waiting.enter_context(watch.watching(name))
            made = job(name)
            made["spec"]["template"]["metadata"] = {"labels": {MANAGED_BY: MANAGER, NAME_LABEL: name}}
            api.put("jobs", made)
        wait_for(lambda: all("Complete" in conditions(each) for each in api.objects("jobs")))
        wait_for(lambda: all(is_over(pod) for name in names for pod in watch.pods(name) or [{}]))
        assert [len(watch.pods(name)) for name in names] == [1] * 500
        assert (api.watches.opened, api.watches.open) == (1, 1)
