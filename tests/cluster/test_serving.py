"""The doors to servers and routes on this cluster: a real model is fetched, served, replaced and retired in pods of the
image; routes change their weights on a server that has the kind, followed by a gateway that is played here."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_core.errors import IntegrityError, TransientError
from llmops_core.route_manifest import base_path
from llmops_core.serving_manifest import DEPLOYMENT_LABEL, WeightStore, object_name
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.serving_settings import ClusterServingPlace
from llmops_core.verdict import Verdict
from resources.cluster.kubernetes_api import KubernetesApi
from resources.serving.kubernetes_serving import KubernetesServing
from resources.storage.object_store import NamedPlace
from resources.storage.s3_artifacts import S3Artifacts
from resources.traffic.httproute_gateway import HttpRouteGateway
from tests.cluster.cluster_under_test import Cluster, Namespace, wait_for
from tests.cluster.jobs_under_test import SECRET
from tests.fakes.job_worlds import BUCKET
from tests.fakes.platform import deployment, route, table
from tests.fakes.played_gateway import PlayedGateway
from tests.fakes.s3_servers import CREDENTIALS
from tests.recipes.conftest import make_tiny_llama

READY_SECONDS = 180


def place_in(namespace: Namespace, gateway_url: str = "https://models.example.com") -> ClusterServingPlace:
    given = namespace.cluster.settings
    fields = {
        **{"kind": "kubernetes", "namespace": namespace.name, "image": given.image, "pull_policy": given.pull_policy},
        **{"gateway": {"name": "models", "url": gateway_url}, "prometheus": {"url": "https://prometheus.example.com"}},
        **{"secrets": [SECRET], "ephemeral_storage_gb": 0.5, "ready_seconds": READY_SECONDS},
    }
    return ClusterServingPlace.model_validate(fields, context={"allowed_endpoints": frozenset({"127.0.0.1"})})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from recipes.gguf_export import export_gguf

    folder = tmp_path_factory.mktemp("packaged")
    export_gguf(make_tiny_llama(tmp_path_factory.mktemp("tiny")), folder / "model.gguf", "f32")
    return folder


@pytest.fixture
def store(namespace: Namespace, s3: str) -> WeightStore:
    namespace.create("secrets", {"metadata": {"name": SECRET}, "stringData": dict(CREDENTIALS)})
    return WeightStore(f"s3://{BUCKET}/{namespace.name}", s3, "us-east-1")


def serving_in(namespace: Namespace, store: WeightStore) -> KubernetesServing:
    api = KubernetesApi(namespace.cluster.client(), namespace.name)
    return KubernetesServing(place_in(namespace), api, store, {})


def plan(digest: str, **changes: object) -> DeploymentPlan:
    values = {
        **{"name": "llama-3.1-production-v1-1a2b3c4d", "model": "llama-3.1", "version": "1", "weights_digest": digest},
        **{"model_file": Path("model.gguf"), "alias": "llama-3.1@1", "context_tokens": 64, "parallel": 2},
        **{"timeout_seconds": 2.0, "directory": Path(), "python": Path(sys.executable), "memory_gb": 0.5, "cpu": 0.25},
    }
    return DeploymentPlan.model_validate({**values, **changes})


def published(store: WeightStore, folder: Path, cache: Path) -> str:
    place = NamedPlace("test", "store", store.uri, store.endpoint, store.region)
    return S3Artifacts(place, cache).publish("weights", folder).digest


def pods_of(namespace: Namespace, name: str) -> list[str]:
    found = namespace.items("pods", f"{DEPLOYMENT_LABEL}={object_name(name)}")
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


@pytest.mark.usefixtures("pods")
def test_a_model_was_not_served_replaced_or_retired(
    namespace: Namespace, store: WeightStore, weights: Path, tmp_path: Path
) -> None:
    serving = serving_in(namespace, store)
    first = plan(published(store, weights, tmp_path))
    deployed = serving.deploy(first)
    serving.wait_ready(deployed, READY_SECONDS)
    assert serving.health(first.name).verdict is Verdict.PASSED and serving.plan(first.name) == first
    assert serving.deploy(first) == deployed and serving.running() == [deployed]
    (before,) = pods_of(namespace, first.name)
    second = first.model_copy(update={"context_tokens": 32})
    serving.wait_ready(serving.deploy(second), READY_SECONDS)
    (after,) = pods_of(namespace, first.name)
    assert after != before and serving.plan(first.name) == second
    serving.retire(first.name)
    assert serving.running() == []
    wait_for(lambda: not namespace.items("pods"), "the pods do not go")
    wait_for(lambda: namespace.get("services", object_name(first.name)) is None, "the Service does not go")


@pytest.mark.usefixtures("pods")
def test_weights_that_nobody_has_were_waited_for(namespace: Namespace, store: WeightStore) -> None:
    serving = serving_in(namespace, store)
    with pytest.raises(IntegrityError, match=r"fetch in .* ended again and again(.|\n)*there are no weights"):
        serving.wait_ready(serving.deploy(plan("0" * 64)), READY_SECONDS)


@pytest.fixture
def played(cluster: Cluster, namespace: Namespace) -> Iterator[PlayedGateway]:
    if not cluster.serves("gateway.networking.k8s.io", "v1", "httproutes"):
        pytest.skip("this cluster has no HTTPRoute: the Gateway API is not installed")
    with cluster.client() as connection:
        gateway = PlayedGateway(connection, namespace.name)
        yield gateway
        gateway.end()


def test_a_route_kept_its_old_weights_or_nobody_was_told(namespace: Namespace, played: PlayedGateway) -> None:
    old, new = deployment("llama-3.1-v1", 8000, "llama-3.1"), deployment("llama-3.1-v2", 8000, "llama-3.1")
    api = KubernetesApi(namespace.cluster.client(), namespace.name)
    gateway = HttpRouteGateway(place_in(namespace, played.url), api, 20)
    for wanted in (table(route((old, 100))), table(route((old, 90), (new, 10))), table(route((new, 100)))):
        gateway.apply(wanted)
        assert gateway.current() == wanted
        rule, _ = played.rule_for(f"{base_path('llama-3.1', 'production')}/v1/models") or ({}, {})
        shares = [(share.deployment.name, share.weight_percent) for share in wanted.routes[0].shares]
        assert [(ref["name"], ref["weight"]) for ref in rule["backendRefs"]] == [(object_name(n), w) for n, w in shares]
    gateway.apply(table())
    assert namespace.items("httproutes") == [] and played.rule_for("/models/llama-3.1/v1/models") is None


def test_a_route_that_no_controller_looks_at_was_called_in_force(namespace: Namespace, played: PlayedGateway) -> None:
    played.blind = True
    api = KubernetesApi(namespace.cluster.client(), namespace.name)
    gateway = HttpRouteGateway(place_in(namespace, played.url), api, 1)
    with pytest.raises(TransientError, match="no controller of the Gateway models has looked at it"):
        gateway.apply(table(route((deployment("llama-3.1-v1", 8000, "llama-3.1"), 100))))
