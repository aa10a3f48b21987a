"""Runs as pods, by Dagster's K8sRunLauncher, and steps as pods, by its k8s_job_executor, as this platform sets them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterRunStatus

from tests.cluster.cluster_under_test import Cluster, Namespace, wait_for
from tests.cluster.dagster_under_test import DagsterOnCluster
from tests.fakes import postgres_server
from tests.fakes.postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer

pytestmark = [pytest.mark.usefixtures("pods"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def postgres_for_pods(cluster: Cluster) -> Iterator[PostgresServer]:
    if postgres_server.programs() is None:
        pytest.skip(
            "runs keep their state in PostgreSQL on this machine, which is not here: apt-get install postgresql"
        )
    with postgres_server.running_postgres(cluster.host()) as server:
        yield server


@pytest.fixture
def dagster(
    namespace: Namespace, postgres_for_pods: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterOnCluster]:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    folder = Path(tempfile.mkdtemp(prefix="llmops-runs-"))
    started = DagsterOnCluster(namespace, postgres_for_pods.new_database(), folder)
    try:
        yield started
    finally:
        started.close()
        shutil.rmtree(folder)


def gone(dagster: DagsterOnCluster) -> bool:
    return not dagster.namespace.items("pods") and not dagster.namespace.items("jobs")


def test_a_run_in_a_pod_never_ended_or_was_not_heard(dagster: DagsterOnCluster) -> None:
    run_id = dagster.launch("in_one_pod")
    assert dagster.ended(run_id) is DagsterRunStatus.SUCCESS, dagster.said(run_id)
    (job,) = dagster.jobs(run_id, "run_worker")
    steps = dagster.worked_in(run_id)
    assert len(steps) == 2 and len(set(steps)) == 1 and steps[0].startswith(job["metadata"]["name"])
    assert dagster.namespace.ended(job["metadata"]["name"])["status"]["succeeded"] == 1


def test_a_run_that_failed_looked_like_a_worker_that_died(dagster: DagsterOnCluster) -> None:
    run_id = dagster.launch("failing")
    assert dagster.ended(run_id) is DagsterRunStatus.FAILURE
    assert any("Steps failed: ['fails']" in line for line in dagster.said(run_id))
    (job,) = dagster.jobs(run_id, "run_worker")
    assert dagster.namespace.ended(job["metadata"]["name"])["status"]["succeeded"] == 1


def test_a_run_that_was_ended_left_its_pod(dagster: DagsterOnCluster) -> None:
    run_id = dagster.launch("waiting")
    wait_for(lambda: any("waits" in line for line in dagster.said(run_id)), "its step does not begin", 120)
    assert dagster.instance.run_launcher.terminate(run_id)
    assert dagster.ended(run_id) is DagsterRunStatus.CANCELED
    wait_for(lambda: gone(dagster), "job or pod stay")


def test_a_worker_that_died_was_called_healthy(dagster: DagsterOnCluster) -> None:
    run_id = dagster.launch("waiting")
    wait_for(lambda: any("waits" in line for line in dagster.said(run_id)), "its step does not begin", 120)
    (pod,) = dagster.namespace.items("pods")
    cluster, path = dagster.namespace.cluster, dagster.namespace.path("pods", pod["metadata"]["name"])
    cluster.call("DELETE", path, {"gracePeriodSeconds": 0})
    run = dagster.instance.get_run_by_id(run_id)
    assert run is not None

    def failed() -> bool:
        return dagster.instance.run_launcher.check_run_worker_health(run).status.value == "FAILED"

    wait_for(failed, "the worker counts as alive")


def test_steps_shared_a_pod_or_belonged_to_no_run(dagster: DagsterOnCluster) -> None:
    run_id = dagster.launch("in_pods_of_their_own")
    assert dagster.ended(run_id) is DagsterRunStatus.SUCCESS, dagster.said(run_id)
    steps = dagster.worked_in(run_id)
    run_pods = {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in dagster.namespace.items("pods", "app.kubernetes.io/component=run_worker")
    }
    assert len(set(steps)) == 2 and not run_pods.keys() & set(steps)
    jobs = dagster.jobs(run_id, "step_worker")
    assert len(jobs) == 2
    for job in jobs:
        (owner,) = job["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Pod", run_pods[owner["name"]])
        told = job["spec"]["template"]["spec"]
        assert told["serviceAccountName"] == "llmops-run" and told["securityContext"]["runAsNonRoot"] is True
        assert told["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_run_that_was_ended_left_the_pod_of_a_step(dagster: DagsterOnCluster) -> None:
    run_id = dagster.launch("waiting_in_a_pod")
    wait_for(lambda: any('of step "waits"' in line for line in dagster.said(run_id)), "its step does not begin", 240)
    assert dagster.instance.run_launcher.terminate(run_id)
    assert dagster.ended(run_id) is DagsterRunStatus.CANCELED
    wait_for(lambda: gone(dagster), "a job or pod stays")
