"""`llmops doctor` of an environment on Kubernetes, against the stand-in of its API (tests/fakes/kubernetes_api.py)."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.operations.doctor_cluster import examine_cluster
from llmops_assets.operations.doctor_inside import hidden_from
from llmops_core.doctor import Diagnosis, Health
from llmops_core.repositories import WatchedRepository
from llmops_core.serving_manifest import SELECTOR
from llmops_core.settings import Settings, load_settings
from resources.home import Home
from resources.wiring import Platform
from tests.cli.conftest import Ended
from tests.core.test_allowed_signers import KEY
from tests.core.test_gateway_state import served
from tests.deploy.manifests import ROOT, one
from tests.fakes import kubernetes_kinds as kinds
from tests.fakes.git_with_data import GitWithData
from tests.fakes.image_registry import image_registry
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.played_prometheus import PlayedPrometheus
from tests.fakes.ports import free_port

SPACE = "llm-staging"
TEXT = (ROOT / "config" / "staging.yaml").read_text()
IMAGES = re.findall(r"image: ([^/\s]+)/(\S+)$", TEXT, re.MULTILINE)
CLASS = {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}
ACCEPTED = {"conditions": [{"type": "Accepted", "status": "True"}]}
GATEWAY = one("staging", "Gateway", "models")["spec"]
SERVED = served(GATEWAY)
MONITOR = one("staging", "PodMonitor", "model-servers")["spec"]
LABEL = {"nvidia.com/gpu.product": "Tesla-V100-SXM2-32GB"}


@pytest.fixture
def registry() -> Iterator[str]:
    with image_registry(free_port(), {name for _, name in IMAGES}, "robot:secret") as host:
        yield host


@pytest.fixture
def prometheus() -> Iterator[PlayedPrometheus]:
    played = PlayedPrometheus(SPACE, lambda: [])
    yield played
    played.end()


@pytest.fixture
def settings(registry: str, prometheus: PlayedPrometheus) -> Settings:
    text = TEXT
    for host, _ in IMAGES:
        text = text.replace(f"image: {host}/", f"image: {registry}/")
    there = prometheus.url.removeprefix("http://")
    text = text.replace("prometheus-operated.monitoring.svc.cluster.local:9090", there)
    return load_settings(text.encode(), "config/staging.yaml")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, registry: str) -> Iterator[KubernetesApi]:
    """A cluster on which everything was made as docs/kubernetes.md says."""
    with KubernetesApi() as api:
        monkeypatch.setenv("KUBECONFIG", api.kubeconfig)
        api.create_namespace(SPACE)
        api.nodes.add("gpu", gpus=2, labels=LABEL)
        login = {"auths": {registry: {"auth": base64.b64encode(b"robot:secret").decode()}}}
        config = base64.b64encode(json.dumps(login).encode()).decode()
        put(api, "secrets", "v1", "Secret", "registry", data={".dockerconfigjson": config})
        put(api, "secrets", "v1", "Secret", "llmops-jobs")
        put(api, "secrets", "v1", "Secret", "llmops-servers")
        put(api, "serviceaccounts", "v1", "ServiceAccount", "llmops-job")
        put(api, "serviceaccounts", "v1", "ServiceAccount", "model-server")
        put(api, "gateways", kinds.GATEWAYS.api_version, "Gateway", "models", spec=GATEWAY, status=SERVED)
        put(api, "gatewayclasses", kinds.GATEWAYS.api_version, "GatewayClass", "models", spec=CLASS, status=ACCEPTED)
        put(api, "podmonitors", kinds.POD_MONITORS.api_version, "PodMonitor", "model-servers", spec=MONITOR)
        put(api, "priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", "llmops-serving", value=100000)
        queue: Any = {"spec": {"clusterQueue": "q"}, "status": {"conditions": [{"type": "Active", "status": "True"}]}}
        put(api, "localqueues", kinds.LOCAL_QUEUES.api_version, "LocalQueue", "training", **queue)
        put(api, "priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", "llmops-training", value=1000)
        yield api


def put(api: KubernetesApi, plural: str, version: str, kind: str, name: str, **fields: object) -> None:
    space = "" if kind in ("PriorityClass", "GatewayClass") else SPACE
    metadata = {"name": name} | ({"namespace": space} if space else {})
    api.put(plural, {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}, space)


def examined(settings: Settings) -> dict[str, Diagnosis]:
    return {each.name: each for each in examine_cluster(settings, {})}


def test_a_cluster_that_has_everything_was_called_ill(api: KubernetesApi, settings: Settings) -> None:
    found = examined(settings)
    bad = [each for each in found.values() if each.verdict is not Health.OK]
    assert bad == []
    assert {"kubernetes", "a job", "gpus v100", "queue training", "rights of serving", "pod monitor"} <= found.keys()
    assert {"image of jobs", "image of servers", "image of vLLM", "gateway class models"} <= found.keys()


def test_looking_made_something(api: KubernetesApi, settings: Settings) -> None:
    before = len(api.objects("jobs", SPACE))
    examined(settings)
    assert len(api.objects("jobs", SPACE)) == before
    writes = {(method, path) for method, path in api.requests if method not in ("GET", "POST")}
    assert writes == set()


@pytest.mark.parametrize(
    ("plural", "name", "diagnosis"),
    [
        ("secrets", "llmops-jobs", "secret llm-staging/llmops-jobs"),
        ("secrets", "llmops-servers", "secret llm-staging/llmops-servers"),
        ("secrets", "registry", "secret llm-staging/registry"),
        ("serviceaccounts", "llmops-job", "account llm-staging/llmops-job"),
        ("serviceaccounts", "model-server", "account llm-staging/model-server"),
        ("priorityclasses", "llmops-serving", "priority llmops-serving"),
        ("gatewayclasses", "models", "gateway class models"),
        ("localqueues", "training", "queue training"),
        ("priorityclasses", "llmops-training", "priority llmops-training"),
        ("gateways", "models", "gateway models"),
    ],
)
def test_something_missing_was_called_there(
    api: KubernetesApi, settings: Settings, plural: str, name: str, diagnosis: str
) -> None:
    api.faults.refuse(404, verb="get", resource=plural, name=name, times=None)
    found = examined(settings)[diagnosis]
    assert found.verdict is Health.FAILED and found.mend


HIDDEN = ("secret llm-staging/llmops-jobs", "gpus", "image of jobs", "image of servers")


def test_a_place_that_is_not_shown_was_called_empty(api: KubernetesApi, settings: Settings) -> None:
    api.faults.refuse(403, verb="get", resource="secrets", times=None)
    api.faults.refuse(403, verb="list", resource="nodes", times=None)
    found = examined(settings)
    assert {found[name].verdict for name in HIDDEN} == {Health.UNKNOWN}


def test_a_right_that_is_missing_was_called_given(api: KubernetesApi, settings: Settings) -> None:
    api.faults.refuse(403, verb="delete", resource="jobs", times=None)
    found = examined(settings)["rights of jobs"]
    assert found.verdict is Health.FAILED and "delete jobs.batch" in found.found


def test_a_namespace_that_nobody_made_was_called_ready(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    with KubernetesApi() as empty:
        monkeypatch.setenv("KUBECONFIG", empty.kubeconfig)
        found = examined(settings)
    for name in ("a job", "a server"):
        assert found[name].verdict is Health.FAILED and SPACE in found[name].found
    assert found["gpus v100"].verdict is Health.FAILED


def test_a_cluster_without_the_gateway_api_was_called_ready(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    with KubernetesApi(custom=()) as bare:
        monkeypatch.setenv("KUBECONFIG", bare.kubeconfig)
        found = examined(settings)
    assert {found[f"kind {kind}"].verdict for kind in ("HTTPRoute", "LocalQueue")} == {Health.FAILED}
    assert found["queue training"].verdict is Health.UNKNOWN


def test_a_cluster_that_does_not_answer_was_called_well(api: KubernetesApi, settings: Settings) -> None:
    with api.outage():
        found = examined(settings)
    assert found["kubernetes"].verdict is Health.FAILED and found["cluster"].verdict is Health.UNKNOWN


def test_no_cluster_at_all_was_called_well(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: object
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    assert examined(settings)["kubernetes"].verdict is Health.FAILED


def test_a_prometheus_that_does_not_answer_was_called_well(
    api: KubernetesApi, settings: Settings, prometheus: PlayedPrometheus
) -> None:
    assert examined(settings)["prometheus"].found.endswith("reads 0 of 0 model servers")
    prometheus.status = 503
    assert examined(settings)["prometheus"].verdict is Health.UNKNOWN
    prometheus.status = 401
    assert examined(settings)["prometheus"].verdict is Health.FAILED


def test_an_image_of_servers_that_nobody_pushed_was_called_there(api: KubernetesApi, settings: Settings) -> None:
    other = settings.serving.model_copy(update={"image": settings.serving.image.replace("0.1.0", "0.2.0")})
    found = examined(settings.model_copy(update={"serving": other}))
    assert found["image of servers"].verdict is Health.FAILED and found["image of servers"].mend
    assert found["image of jobs"].verdict is Health.OK


def test_servers_that_nobody_counts_were_called_counted(api: KubernetesApi, settings: Settings) -> None:
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    labels = dict(part.split("=") for part in SELECTOR.split(","))
    spec = {"containers": [{"name": "front", "image": "code"}]}
    pod = {"name": "atlas-qa-1", "namespace": SPACE, "labels": labels}
    api.put("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": spec, "status": ready}, SPACE)
    found = examined(settings)["prometheus"]
    assert found.verdict is Health.FAILED and "0 of 1" in found.found and found.mend


def test_a_cluster_without_pod_monitors_was_called_counted(api: KubernetesApi, settings: Settings) -> None:
    api.faults.refuse(404, verb="list", resource="podmonitors", times=None)
    assert examined(settings)["pod monitor"].verdict is Health.UNKNOWN


def test_a_gateway_that_nobody_serves_was_called_there(api: KubernetesApi, settings: Settings) -> None:
    put(api, "gateways", kinds.GATEWAYS.api_version, "Gateway", "idle", spec=GATEWAY, status={})
    idle = settings.serving.model_copy(update={"gateway": settings.serving.gateway.model_copy(update={"name": "idle"})})
    found = examined(settings.model_copy(update={"serving": idle}))["gateway idle"]
    assert found.verdict is Health.FAILED and "nobody serves it" in found.found


@pytest.mark.parametrize("status", [{}, {"conditions": [{"type": "Active", "status": "Unknown"}]}])
def test_a_queue_that_nobody_looked_at_was_called_ready(
    api: KubernetesApi, settings: Settings, status: dict[str, Any]
) -> None:
    """Any API server keeps the object; without Kueue's controller its jobs wait for ever."""
    version = kinds.LOCAL_QUEUES.api_version
    put(api, "localqueues", version, "LocalQueue", "idle", spec={"clusterQueue": "q"}, status=status)
    jobs = settings.jobs.model_copy(update={"queue": "idle"})
    found = examined(settings.model_copy(update={"jobs": jobs}))["queue idle"]
    assert found.verdict is Health.UNKNOWN and "Kueue" in found.mend


def test_a_queue_that_admits_nothing_was_called_ready(api: KubernetesApi, settings: Settings) -> None:
    why = {"type": "Active", "status": "False", "message": "Can't submit new workloads to clusterQueue"}
    version = kinds.LOCAL_QUEUES.api_version
    put(api, "localqueues", version, "LocalQueue", "shut", spec={"clusterQueue": "q"}, status={"conditions": [why]})
    jobs = settings.jobs.model_copy(update={"queue": "shut"})
    found = examined(settings.model_copy(update={"jobs": jobs}))["queue shut"]
    assert found.verdict is Health.FAILED and "clusterQueue" in found.found


def test_a_cluster_without_the_trainer_was_called_ready_for_train_jobs(
    monkeypatch: pytest.MonkeyPatch, api: KubernetesApi, settings: Settings
) -> None:
    trained = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"workload": "train_job"})})
    assert examined(trained)["a train job"].verdict is Health.OK
    with KubernetesApi(custom=()) as bare:
        monkeypatch.setenv("KUBECONFIG", bare.kubeconfig)
        bare.create_namespace(SPACE)
        found = examined(trained)
    assert {found[name].verdict for name in ("a train job", "kind TrainJob")} == {Health.FAILED}


STORE = "minio.minio.svc.cluster.local:9000"
ONLY_PODS = {"dvc remote", "artifacts", "feedback", "signing", "job store", "ledger", "dagster storage", "mlflow"}


@pytest.fixture
def outside(clone: GitWithData, registry: str) -> GitWithData:
    """Somebody's checkout of staging, all of whose stores are in the cluster."""
    text = TEXT.replace("postgres.llmops.example.com", "postgres.storage.svc.cluster.local")
    text = re.sub(r'(uri: "s3://\S+"), region', rf'\1, endpoint: "http://{STORE}", region', text)
    text = text.replace("allowed_endpoints:", f"allowed_endpoints:\n  - {STORE}")
    for host, _ in IMAGES:
        text = text.replace(f"image: {host}/", f"image: {registry}/")
    (clone.path / "config" / "staging.yaml").write_text(text)
    people = clone.path / "config" / "approvers"
    (people / "allowed_signers").write_text(f"ada@example.com {KEY}\n")
    roles = "approvers: {ada@example.com: {production: [technical, security]}}\n"
    (people / "approvers.yaml").write_text(roles)
    clone.git("branch", "staging")
    return clone


def test_names_that_only_pods_know_were_asked_and_called_broken(
    llmops: Callable[..., Ended], outside: GitWithData, api: KubernetesApi
) -> None:
    ended = llmops("doctor", "--json", "--environment", "staging")
    found = {each["name"]: each for each in ended.json["diagnoses"]}
    unknown = {name for name, each in found.items() if each["verdict"] == "unknown"}
    assert unknown == ONLY_PODS | {"prometheus", "rights of jobs", "rights of serving"}, ended.output
    assert all("ask from inside" in found[name]["mend"] for name in unknown)
    assert (ended.exit_code, ended.json["well"]) == (2, False)
    assert f"Nothing failed, but {len(unknown)} of" in llmops("doctor", "--environment", "staging").output


def test_a_failure_was_hidden_by_what_is_unknown(
    llmops: Callable[..., Ended], outside: GitWithData, api: KubernetesApi
) -> None:
    api.faults.refuse(404, verb="get", resource="secrets", name="llmops-jobs", times=None)
    assert llmops("doctor", "--environment", "staging").exit_code == 1


def test_whoever_is_the_platform_itself_was_sent_inside(tmp_path: Path) -> None:
    """In a pod; and on a machine beside the cluster, which must reach all that its settings name."""
    here, mine = Home(tmp_path, tmp_path, 1, "staging"), load_settings(TEXT.encode(), "config/staging.yaml")
    assert hidden_from(Platform(here, mine)).keys() == {"mlflow", "signing", "prometheus", "rights"}
    pod = replace(here, origin=WatchedRepository(name="own", url="https://git.example.com/a.git", branch="staging"))
    assert hidden_from(Platform(pod, mine)) == {}
    beside = mine.model_copy(update={"platform": mine.platform.model_copy(update={"artifacts": None})})
    assert hidden_from(Platform(here, beside)) == {}
