"""A gateway in memory that splits requests exactly by weight, and metrics that count what it was sent."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable

from llmops_core.routing import Deployment, Environment, RouteTable
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS, TrafficCounts
from resources.traffic import envoy_config
from resources.traffic.metrics import Metrics
from resources.traffic.traffic import Gateway


class FakeGateway(Gateway):
    def __init__(self) -> None:
        self.applied: list[RouteTable] = []
        self.outcomes: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._owed: dict[str, float] = defaultdict(float)

    @property
    def url(self) -> str:
        return "http://gateway.example.com"

    def start(self, running: Iterable[Deployment] = ()) -> None:
        self.revise(lambda table: table.with_addresses(running))

    def revise(self, change: Callable[[RouteTable], RouteTable]) -> RouteTable:
        with self._lock:
            table = change(self.current())
            envoy_config.clusters(table)  # refuses what the real one refuses
            if table != self.current():
                self.applied.append(table)
            return table

    def current(self) -> RouteTable:
        return self.applied[-1] if self.applied else RouteTable()

    def request(
        self, model: str, environment: Environment = "production", status: int = 200, seconds: float = 0.01
    ) -> str:
        """One request with a given outcome; 0 as status means that nothing was ever answered. Returns the deployment:
        the one that is furthest behind its share."""
        route = self.current().route(model, environment)
        if route is None:
            raise LookupError(f"{model} is not served in {environment}")
        for share in route.shares:
            self._owed[share.deployment.name] += share.weight_percent / 100
        chosen = max((share.deployment.name for share in route.shares), key=lambda name: self._owed[name])
        self._owed[chosen] -= 1
        self.outcomes[chosen].append((status, seconds))
        return chosen


class FakeMetrics(Metrics):
    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway

    def counts(self, since: float | None = None) -> dict[str, TrafficCounts]:
        return {name: _counts(outcomes) for name, outcomes in self._gateway.outcomes.items() if outcomes}


def _counts(outcomes: list[tuple[int, float]]) -> TrafficCounts:
    answered = [seconds for status, seconds in outcomes if status]
    return TrafficCounts(
        requests=len(outcomes),
        failures=sum(status >= 500 or not status for status, _ in outcomes),
        abandoned=0,
        edges_seconds=LATENCY_EDGES_SECONDS,
        faster=tuple(sum(seconds < edge for seconds in answered) for edge in LATENCY_EDGES_SECONDS),
    )
