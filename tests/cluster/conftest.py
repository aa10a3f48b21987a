"""`pytest -m cluster` runs these tests on the cluster of LLMOPS_TEST_KUBECONFIG, each in a namespace of its own."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from kubernetes.client.exceptions import ApiException
from moto.server import ThreadedMotoServer

from tests.cluster.cluster_under_test import KUBECONFIG, Cluster, Namespace, named_by_environment, wait_for
from tests.cluster.jobs_under_test import SECRET, RealClusterWorld
from tests.fakes.job_worlds import BUCKET
from tests.fakes.ports import free_port
from tests.fakes.s3_servers import CREDENTIALS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster/" in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    settings = named_by_environment()
    if settings is None:
        pytest.skip(f"no cluster: {KUBECONFIG} names no kubeconfig")
    cluster = Cluster(settings)
    with cluster.connection:
        yield cluster


@pytest.fixture(scope="session")
def pods(cluster: Cluster) -> None:
    """Asked for by tests that need a pod to run."""
    if not cluster.has_pods():
        pytest.skip("this cluster has no ready node: nothing can run in it")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    name = f"llmops-test-{uuid.uuid4().hex[:8]}"
    labels = {"app.kubernetes.io/managed-by": "llmops-tests"}
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    place = Namespace(cluster, name)
    wait_for(lambda: place.get("serviceaccounts", "default"), "no service account came with the namespace")
    try:
        yield place
    finally:
        path = f"/api/v1/namespaces/{name}"
        cluster.call("DELETE", path)

        def gone() -> bool:
            try:
                cluster.call("GET", path)
            except ApiException as error:
                return error.status == 404
            return False

        wait_for(gone, f"namespace {name} does not go")


@pytest.fixture(scope="module")
def s3(cluster: Cluster) -> Iterator[str]:
    """An object store on this machine, at an address that pods reach (LLMOPS_TEST_HOST)."""
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


@pytest.fixture
def world(tmp_path: Path, namespace: Namespace, s3: str) -> RealClusterWorld:
    namespace.create("secrets", {"metadata": {"name": SECRET}, "stringData": dict(CREDENTIALS)})
    return RealClusterWorld(tmp_path, namespace, s3)
