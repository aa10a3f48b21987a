"""The door to jobs on this cluster: recipes of a few lines, sent, run in a pod of the image, followed and fetched.

The object store is moto on this machine, at an address that pods reach (LLMOPS_TEST_HOST).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from llmops_core.job_settings import ClusterJobsPlace
from resources.kubernetes_api import KubernetesApi
from resources.object_store import NamedPlace
from tests.cluster.cluster_under_test import Cluster, Namespace, wait_for
from tests.fakes.job_worlds import BUCKET, PREAMBLE, ClusterWorld, Killed, Ran, RunBook, World
from tests.fakes.ports import free_port
from tests.fakes.s3_servers import CREDENTIALS

pytestmark = pytest.mark.usefixtures("pods")
SECRET = "store-credentials"
ENDS_SECONDS = 180.0
# Too much for the 0.5 GB that a job of these worlds has at first, beside the program that runs it.
EATS = """
held = b"x" * 450_000_000
given.out.mkdir()
(given.out / "report.json").write_text(str(len(held)))
"""


@pytest.fixture(scope="module")
def s3(cluster: Cluster) -> Iterator[str]:
    host = cluster.host()
    server = ThreadedMotoServer(ip_address=host, port=free_port(), verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket=BUCKET)
        yield url
    server.stop()


class RealClusterWorld(ClusterWorld):
    """The door on a cluster that is not ours to play with: only what its API says is seen."""

    def __init__(self, root: Path, namespace: Namespace, s3: str, **fields: Any) -> None:
        self.namespace, self.s3 = namespace, s3
        given = namespace.cluster.settings
        self.client = KubernetesApi(namespace.cluster.client(), namespace.name)
        self.place = ClusterJobsPlace.model_validate(
            {
                **{"kind": "kubernetes", "namespace": namespace.name, "image": given.image},
                **{"pull_policy": given.pull_policy, "secrets": [SECRET], "pending_seconds": 60},
                **{"store": {"uri": f"s3://{BUCKET}/{namespace.name}"}, "shared_memory_gb": 0.1},
                **{"ephemeral_storage_gb": 0.5, **fields},
            }
        )
        self.store_place = NamedPlace("config", "jobs.store", self.place.store.uri, s3, "us-east-1")
        self.book = RunBook()
        World.__init__(self, root)
        (self.code / "recipes" / "eats.py").write_text(PREAMBLE + EATS)

    @property
    def job_objects(self) -> list[dict[str, Any]]:
        return self.namespace.items("jobs")

    def running(self) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            pods = self.namespace.items("pods")
            return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

        return wait_for(found, "no pod of the job runs")


@pytest.fixture
def world(tmp_path: Path, namespace: Namespace, s3: str) -> RealClusterWorld:
    namespace.create("secrets", {"metadata": {"name": SECRET}, "stringData": dict(CREDENTIALS)})
    return RealClusterWorld(tmp_path, namespace, s3)


def outcome(ran: Ran) -> str:
    return "; ".join(f"{type(error).__name__}: {error}" for error in ran.errors)


def test_a_job_left_no_result_or_was_not_heard(world: RealClusterWorld) -> None:
    ran = world.following(recipe="speaks", times=2).ended(ENDS_SECONDS)
    assert ran.errors == [], outcome(ran)
    assert (ran.out / "deep" / "rows.txt").read_text() == "a row\n" * 2
    assert [each["done"] for each in ran.progress] in ([], [1, 2])
    assert "printed" in ran.events and ran.events_with("speaks 2/2, loss 0.5")


def test_an_error_of_the_input_was_tried_again(world: RealClusterWorld) -> None:
    ran = world.following(recipe="blames").ended(ENDS_SECONDS)
    (error,) = ran.errors
    assert isinstance(error, InputError), outcome(ran)
    assert error.problems[0].message == "rows.jsonl: line 3 is no object" and len(world.job_objects) == 1


def test_a_retried_step_started_another_job(world: RealClusterWorld) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    first = world.following(recipe="speaks", on_progress=dies, times=1).ended(ENDS_SECONDS)
    assert isinstance(first.errors[0], Killed), outcome(first)
    second = world.following(recipe="speaks", times=1).ended(ENDS_SECONDS)
    assert second.errors == [] and (second.out / "report.json").exists(), outcome(second)
    assert world.book.messages("run").count("printed") == 1 and len(world.job_objects) == 1


def test_a_deleted_pod_was_waited_for_for_ever(world: RealClusterWorld) -> None:
    going = world.following(recipe="waits")
    world.namespace.delete("pods", world.running()["metadata"]["name"], "Background")
    ran = going.ended(ENDS_SECONDS)
    (error,) = ran.errors
    assert isinstance(error, TransientError) and "pod_deleted" in str(error), outcome(ran)


def test_a_run_that_was_cancelled_left_its_job(world: RealClusterWorld) -> None:
    going = world.following(recipe="waits")
    world.running()
    (job,) = world.job_objects
    world.namespace.delete("jobs", job["metadata"]["name"])
    assert isinstance(going.ended(ENDS_SECONDS).errors[0], TransientError)
    wait_for(lambda: not world.namespace.items("pods"), "the pod goes on")


def test_memory_did_not_follow_the_ladder(world: RealClusterWorld) -> None:
    world.place = world.place.model_copy(update={"memory_ladder_gb": (1.5,)})
    ran = world.following(recipe="eats").ended(ENDS_SECONDS)
    assert ran.errors == [] and (ran.out / "report.json").read_text() == "450000000", outcome(ran)
    limits = [job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for job in world.job_objects]
    assert sorted(limit["memory"] for limit in limits) == ["1500M", "500M"]


def test_a_job_past_its_deadline_was_called_a_crash(world: RealClusterWorld) -> None:
    world.place = world.place.model_copy(update={"deadline_seconds": 8})
    ran = world.following(recipe="waits").ended(ENDS_SECONDS)
    (error,) = ran.errors
    assert isinstance(error, EnvironmentLacks) and "deadline_exceeded" in str(error), outcome(ran)
