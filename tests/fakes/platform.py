"""A real gateway, process keeper and metrics on ports of their own, and a client that says how servers shall behave."""

import http.client
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_core.routing import Deployment, Environment, Route, RouteTable, Share
from resources.host.processes import SupervisorProcesses
from resources.traffic.metrics import EnvoyMetrics
from resources.traffic.traffic import EnvoyGateway
from tests.fakes.model_server import ModelServer
from tests.fakes.ports import free_port_base

DIGEST = "d" * 64


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Platform:
    home: Path
    port_base: int
    processes: SupervisorProcesses
    gateway: EnvoyGateway
    metrics: EnvoyMetrics

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
        """Underscores in header names stand for hyphens. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port_base, timeout=15)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, content, sent)
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()


@contextmanager
def running_platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="llmops-") as folder:
        home, base = Path(folder), free_port_base()
        processes = SupervisorProcesses(home)
        gateway = EnvoyGateway(home, base, processes)
        processes.start()
        try:
            gateway.start()
            yield Platform(home, base, processes, gateway, EnvoyMetrics(base))
        finally:
            processes.stop()


def deployment(name: str, port: int, model: str = "atlas-qa", timeout_seconds: float = 5.0) -> Deployment:
    return Deployment(
        name=name,
        model=model,
        version=f"version of {name}",
        weights_digest=DIGEST,
        host="127.0.0.1",
        port=port,
        timeout_seconds=timeout_seconds,
    )


def serving(server: ModelServer, model: str = "atlas-qa", timeout_seconds: float = 5.0) -> Deployment:
    return deployment(server.name, server.port, model, timeout_seconds)


def route(*shares: tuple[Deployment, int], environment: Environment = "production") -> Route:
    """A route of the first deployment's model."""
    parts = tuple(Share(deployment=one, weight_percent=weight) for one, weight in shares)
    return Route(model=shares[0][0].model, environment=environment, shares=parts)


def table(*routes: Route) -> RouteTable:
    return RouteTable(routes=routes)
