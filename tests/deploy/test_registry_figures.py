"""The ServiceMonitor of MLflow yields figures: the very command of its manifest counts, and answers to the name by
which Prometheus asks a pod, and to no other."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import ENVIRONMENTS, of_kind, one
from tests.deploy.test_traffic import matches
from tests.fakes.ports import free_port

environments = pytest.mark.parametrize("environment", ENVIRONMENTS)
POD_IP = "10.8.0.17"


def monitor(environment: str) -> dict[str, Any]:
    (found,) = of_kind(environment, "ServiceMonitor")
    return found


def asked_name(environment: str) -> str:
    """As Prometheus relabels the address of a pod."""
    (rule,) = monitor(environment)["spec"]["endpoints"][0]["relabelings"]
    known = {"__meta_kubernetes_pod_ip": POD_IP, "__meta_kubernetes_namespace": f"llmops-{environment}"}
    text = ";".join(known[name] for name in rule["sourceLabels"])
    match = re.fullmatch(rule["regex"], text)
    assert match and rule["targetLabel"] == "__address__"
    return re.sub(r"\$(\d)", lambda number: match[int(number[1])], rule["replacement"])


@environments
def test_the_monitor_of_the_registry_picks_nobody(environment: str) -> None:
    service = one(environment, "Service", "mlflow")
    spec = monitor(environment)["spec"]
    assert matches(spec["selector"], service["metadata"]["labels"])
    assert {each["port"] for each in spec["endpoints"]} == {port["name"] for port in service["spec"]["ports"]}
    assert monitor(environment)["metadata"]["namespace"] == service["metadata"]["namespace"]


@environments
def test_prometheus_may_not_reach_the_registry_or_others_of_its_namespace_may(environment: str) -> None:
    _, peer = one(environment, "NetworkPolicy", "mlflow")["spec"]["ingress"][0]["from"]
    assert matches(peer["namespaceSelector"], {"llmops.dev/monitoring": "true"})
    assert matches(peer["podSelector"], {"app.kubernetes.io/name": "prometheus"})
    assert not matches(peer["podSelector"], {"app.kubernetes.io/name": "grafana"})


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    (container,) = one("staging", "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"]
    told = {**one("staging", "ConfigMap", "mlflow")["data"]}
    told |= {each["name"]: each["value"] for each in container["env"] if "value" in each}
    told = {name: value.replace("/tmp/", f"{folder}/") for name, value in told.items()}
    told |= dict.fromkeys(("_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_REGISTRY_STORE"), f"sqlite:///{folder}/m.db")
    command = [{"0.0.0.0": "127.0.0.1", "5000": str(port)}.get(word, word) for word in container["command"]]
    with Path(folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], env={**os.environ, **told}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        while answer(f"http://127.0.0.1:{port}/health", "localhost")[0] != 200:
            assert time.monotonic() < deadline and server.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def answer(url: str, host: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


@pytest.mark.slow  # starts MLflow's server, which takes seconds
def test_the_registry_counts_nothing_or_tells_prometheus_nothing(registry: str) -> None:
    for _ in range(3):
        code, _ = answer(f"{registry}/api/2.0/mlflow/experiments/search?max_results=1", "localhost:5000")
        assert code == 200
    code, figures = answer(f"{registry}/metrics", asked_name("staging"))
    assert code == 200
    (count,) = re.findall(r'^mlflow_http_request_total\{method="GET",status="200"\} (\S+)$', figures, re.MULTILINE)
    assert float(count) >= 3  # of both processes together
    assert answer(f"{registry}/metrics", f"{POD_IP}:5000")[0] == 403  # so that the relabelling is needed
    assert answer(f"{registry}/metrics", "10-8-0-17.llmops-staging.pod.cluster.local.evil.example:5000")[0] == 403
