"""How pods end on this cluster: what the door to jobs reads must look like what it expects."""

import pytest

from tests.cluster.cluster_under_test import Namespace, final_condition, terminated, wait_for
from tests.resources.kubernetes_samples import deployment

pytestmark = pytest.mark.usefixtures("pods")
HOLD = ["python", "-c", "import time; time.sleep(600)"]


def test_a_job_that_succeeded_lost_its_words(namespace: Namespace) -> None:
    namespace.job("a", ["python", "-c", "print('one'); print('two')"])
    job = namespace.ended("a")
    assert (final_condition(job) or {})["type"] == "Complete" and job["status"]["succeeded"] == 1
    pod = namespace.pod_of("a")
    assert pod is not None and namespace.log(pod) == "one\ntwo\n" and terminated(pod)["exitCode"] == 0


def test_an_exit_code_was_lost(namespace: Namespace) -> None:
    namespace.job("a", ["python", "-c", "raise SystemExit(3)"])
    failed = final_condition(namespace.ended("a")) or {}
    assert (failed["type"], failed["reason"]) == ("Failed", "BackoffLimitExceeded")
    pod = namespace.pod_of("a")
    assert pod is not None and terminated(pod)["exitCode"] == 3


def test_a_secret_was_not_seen_or_the_rest_was(namespace: Namespace) -> None:
    namespace.create("secrets", {"metadata": {"name": "s"}, "stringData": {"key": "hidden"}})
    source = {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}
    namespace.job("a", ["python", "-c", "import os; print(os.environ['SECRET'])"], container={"env": [source]})
    namespace.ended("a")
    pod = namespace.pod_of("a")
    assert pod is not None and namespace.log(pod) == "hidden\n"


def test_running_out_of_memory_looked_like_any_crash(namespace: Namespace) -> None:
    takes = "held = [bytearray(b'x' * 2**20) for _ in range(1024)]"
    namespace.job("a", ["python", "-c", takes])
    assert (final_condition(namespace.ended("a")) or {})["type"] == "Failed"
    pod = namespace.pod_of("a")
    assert pod is not None and (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (137, "OOMKilled")


def test_a_deleted_pod_was_no_failure_of_its_job(namespace: Namespace) -> None:
    namespace.job("a", HOLD)
    pod = namespace.running_pod("a")
    namespace.delete("pods", pod["metadata"]["name"], "Background")
    failed = final_condition(namespace.ended("a")) or {}
    assert (failed["type"], failed["reason"]) == ("Failed", "BackoffLimitExceeded")
    wait_for(lambda: namespace.pod_of("a") is None, "the pod does not go")


def test_a_deadline_passed_unnoticed(namespace: Namespace) -> None:
    namespace.job("a", HOLD, activeDeadlineSeconds=5)
    assert (final_condition(namespace.ended("a")) or {})["reason"] == "DeadlineExceeded"


def test_a_cancelled_job_left_a_pod(namespace: Namespace) -> None:
    namespace.job("a", HOLD)
    namespace.running_pod("a")
    namespace.delete("jobs", "a")
    wait_for(lambda: namespace.get("jobs", "a") is None, "the job does not go")
    assert namespace.items("pods") == []


def test_an_image_that_is_missing_ran(namespace: Namespace) -> None:
    missing = {"image": "registry.invalid/nothing:1", "imagePullPolicy": "Never"}
    namespace.job("a", ["true"], container=missing)

    def waits() -> str:
        pod = namespace.pod_of("a") or {"status": {}}
        states = [one["state"] for one in pod["status"].get("containerStatuses") or []]
        return states[0].get("waiting", {}).get("reason", "") if states else ""

    wait_for(lambda: waits() == "ErrImageNeverPull", "the missing image is not told")


def test_indexes_of_a_job_were_given_twice(namespace: Namespace) -> None:
    script = "import os; print(os.environ['JOB_COMPLETION_INDEX'], os.environ['HOSTNAME'])"
    namespace.job("a", ["python", "-c", script], completionMode="Indexed", completions=2, parallelism=2)
    assert namespace.ended("a")["status"]["completedIndexes"] == "0,1"
    pods = namespace.items("pods", "batch.kubernetes.io/job-name=a")
    assert sorted(namespace.log(pod) for pod in pods) == ["0 a-0\n", "1 a-1\n"]


def test_a_rollout_stopped_half_way(namespace: Namespace) -> None:
    body = deployment("d", namespace.cluster.settings.image, replicas=2)
    container = body["spec"]["template"]["spec"]["containers"][0]
    container |= {"command": HOLD, "imagePullPolicy": namespace.cluster.settings.pull_policy}
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    namespace.create("deployments", body)

    def rolled_out(generation: int) -> bool:
        status = (namespace.get("deployments", "d") or {}).get("status") or {}
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        return status.get("observedGeneration", 0) >= generation and counts == [2, 2, 2]

    wait_for(lambda: rolled_out(1), "the deployment does not come up")
    container["env"] = [{"name": "VERSION", "value": "2"}]
    namespace.patch("deployments", "d", {"spec": {"template": {"spec": {"containers": [container]}}}})
    wait_for(lambda: rolled_out(2), "the rollout does not end")
    live = [pod for pod in namespace.items("pods", "app=d") if "deletionTimestamp" not in pod["metadata"]]
    assert len(live) == 2 and all(pod["spec"]["containers"][0].get("env") for pod in live)
