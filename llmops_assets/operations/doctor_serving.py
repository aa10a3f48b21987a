"""Examining what model servers need of a cluster: to be let in, to be reached, and to be counted."""

from pathlib import Path

from llmops_assets.operations.doctor_inside import Hidden
from llmops_assets.operations.doctor_pods import Examined, Wanted, guarded, rights, there, trial
from llmops_core import serving_manifest
from llmops_core.doctor import Diagnosis, Health, ask_from_inside, rights_of_serving
from llmops_core.gateway_state import judge_class, judge_gateway
from llmops_core.monitor_state import judge_monitors, judge_scrapes
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.serving_settings import ClusterServingPlace
from resources.cluster.cluster_view import ClusterView
from resources.traffic.prometheus_metrics import PrometheusMetrics

GATEWAYS = "/apis/gateway.networking.k8s.io/v1"
TRIAL = DeploymentPlan(
    name="doctor-trial",
    model="doctor",
    version="0",
    weights_digest="0" * 64,
    model_file=Path("model.gguf"),
    alias="doctor",
    context_tokens=1,
    parallel=1,
    timeout_seconds=1,
    directory=Path(),
    python=Path("python"),
)
FRONT = "http"  # the port of a server's pod whose figures are a canary's evidence


def examine_serving(view: ClusterView, serving: ClusterServingPlace, has_store: bool, hidden: Hidden) -> Examined:
    mine = rights_of_serving()
    yield from guarded("rights of serving", lambda: rights(view, "serving", serving.namespace, mine, hidden))
    yield from guarded("a server", lambda: _trial(view, serving))
    yield from guarded(f"gateway {serving.gateway.name}", lambda: _gateway(view, serving))
    if "prometheus" in hidden:
        yield ask_from_inside("prometheus", hidden["prometheus"])
    else:
        yield from guarded("prometheus", lambda: _prometheus(view, serving))
    yield from guarded("pod monitor", lambda: _monitors(view, serving))
    if not has_store:
        mend = "name a bucket under platform.artifacts"
        yield Diagnosis("weights of servers", Health.FAILED, "pods cannot fetch them: there is no object store", mend)


def _trial(view: ClusterView, serving: ClusterServingPlace) -> Examined:
    manifest = serving_manifest.deployment(TRIAL, serving, serving_manifest.WeightStore("s3://trial/trial"), {})
    path = f"/apis/apps/v1/namespaces/{serving.namespace}/deployments"
    yield from trial(view, "a server", path, manifest, "see deploy/kubernetes/base/workloads")


def _gateway(view: ClusterView, serving: ClusterServingPlace) -> Examined:
    path = f"{GATEWAYS}/namespaces/{serving.namespace}/gateways/{serving.gateway.name}"
    found = view.read(path)
    if found is None:
        yield from there(view, Wanted(f"gateway {serving.gateway.name}", path))
        return
    yield judge_gateway(found, serving.gateway.listener)
    wanted = str(found["spec"]["gatewayClassName"])
    look = f"{GATEWAYS}/gatewayclasses/{wanted}"
    yield from guarded(f"gateway class {wanted}", lambda: iter([judge_class(wanted, view.read(look))]))


def _prometheus(view: ClusterView, serving: ClusterServingPlace) -> Examined:
    scraped = PrometheusMetrics(serving.prometheus, serving.namespace).servers()
    pods = view.every(f"/api/v1/namespaces/{serving.namespace}/pods", serving_manifest.SELECTOR) or []
    yield judge_scrapes(serving.prometheus.url, scraped, sum(map(_is_ready, pods)))


def _is_ready(pod: dict[str, object]) -> bool:
    status = pod.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions or [])


def _monitors(view: ClusterView, serving: ClusterServingPlace) -> Examined:
    monitors = view.every(f"/apis/monitoring.coreos.com/v1/namespaces/{serving.namespace}/podmonitors")
    if monitors is None:
        found = "the cluster has no Prometheus operator: whether its Prometheus finds servers shows when one runs"
        yield Diagnosis("pod monitor", Health.UNKNOWN, found, "run this again when a server runs")
        return
    yield judge_monitors(monitors, serving_manifest.labels(TRIAL), FRONT)
