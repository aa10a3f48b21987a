"""What every gateway and its metrics promise, asked of the ones in memory, of Envoy, and of a cluster's routes."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from llmops_core.errors import InputError
from llmops_core.route_manifest import base_path
from llmops_core.routing import Environment, RouteTable
from resources.traffic.httproute_gateway import HttpRouteGateway
from resources.traffic.metrics import Metrics
from resources.traffic.prometheus_metrics import PrometheusMetrics
from resources.traffic.traffic import Gateway
from tests.fakes.model_server import ModelServer
from tests.fakes.platform import Platform, deployment, route, serving, table
from tests.fakes.serving_clusters import ServingCluster, serving_cluster
from tests.fakes.traffic import FakeGateway, FakeMetrics


class Traffic(Protocol):
    """A gateway with its metrics and a way to send one request, answered as told by whom it returns."""

    gateway: Gateway
    metrics: Metrics

    def send(self, model: str, environment: Environment = "production", status: int = 200) -> str: ...


class FakeTraffic:
    def __init__(self) -> None:
        self.gateway = FakeGateway()
        self.metrics = FakeMetrics(self.gateway)

    def send(self, model: str, environment: Environment = "production", status: int = 200) -> str:
        return self.gateway.request(model, environment, status=status)


class EnvoyTraffic:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.gateway = platform.gateway
        self.metrics = platform.metrics

    def send(self, model: str, environment: Environment = "production", status: int = 200) -> str:
        told = {"x_test_status": str(status), "x_llmops_environment": environment}
        return self._platform.ask("/v1/completions", {"model": model}, **told).json["server"]


class ClusterTraffic:
    """HTTPRoutes on the stand-in of the API, followed by a gateway that is played; fronts of pods are real."""

    def __init__(self, cluster: ServingCluster) -> None:
        self._cluster = cluster
        self.gateway = HttpRouteGateway(cluster.place, cluster.client(), 10)
        self.metrics = PrometheusMetrics(cluster.place.prometheus, cluster.place.namespace)

    def send(self, model: str, environment: Environment = "production", status: int = 200) -> str:
        table = self.gateway.current()
        self._cluster.front(share.deployment for route in table.routes for share in route.shares)
        answer = self._cluster.ask(base_path(model, environment), {"x-test-status": str(status)})
        return answer.json["server"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServingCluster]:
    with serving_cluster() as made:
        yield made


@pytest.fixture(params=["fake", "envoy", "kubernetes"])
def traffic(request: pytest.FixtureRequest) -> Traffic:
    if request.param == "fake":
        return FakeTraffic()
    made: Traffic
    if request.param == "kubernetes":
        made = ClusterTraffic(request.getfixturevalue("cluster"))
    else:
        made = EnvoyTraffic(request.getfixturevalue("platform"))
    made.gateway.apply(RouteTable())
    return made


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Iterator[list[ModelServer]]:
    """Names carry the test's, so that counts of one test are not those of another."""
    made = [ModelServer(f"{request.node.name}-{number}") for number in range(3)]
    yield made
    for server in made:
        server.end()


def test_a_new_table_rules_and_is_told(traffic: Traffic, servers: list[ModelServer]) -> None:
    traffic.gateway.start()
    wanted = table(route((serving(servers[0]), 100)))
    traffic.gateway.apply(wanted)
    traffic.gateway.apply(wanted)
    assert traffic.gateway.current() == wanted
    assert traffic.send("atlas-qa") == servers[0].name


def test_a_server_that_moved_while_the_gateway_was_down_was_asked_at_its_old_address(
    traffic: Traffic, servers: list[ModelServer]
) -> None:
    old = serving(servers[0])
    traffic.gateway.apply(table(route((old, 100))))
    moved = old.model_copy(update={"port": servers[1].port})
    traffic.gateway.start([moved, serving(servers[2])])
    assert traffic.gateway.current() == table(route((moved, 100)))
    assert traffic.send("atlas-qa") in (servers[1].name, old.name)  # the one in memory has names alone


def test_environments_and_models_are_kept_apart(traffic: Traffic, servers: list[ModelServer]) -> None:
    production, staging, other = (serving(servers[0]), serving(servers[1]), serving(servers[2], model="llama-3.1-8b"))
    traffic.gateway.apply(
        table(route((production, 100)), route((staging, 100), environment="staging"), route((other, 100)))
    )
    assert traffic.send("atlas-qa") == servers[0].name
    assert traffic.send("atlas-qa", "staging") == servers[1].name
    assert traffic.send("llama-3.1-8b") == servers[2].name


def test_a_share_of_zero_gets_nothing_and_one_of_hundred_all(traffic: Traffic, servers: list[ModelServer]) -> None:
    traffic.gateway.apply(table(route((serving(servers[0]), 100), (serving(servers[1]), 0))))
    assert Counter(traffic.send("atlas-qa") for _ in range(50)) == {servers[0].name: 50}


def test_counts_are_what_was_sent(traffic: Traffic, servers: list[ModelServer]) -> None:
    traffic.gateway.apply(table(route((serving(servers[0]), 60), (serving(servers[1]), 40))))
    sent: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for status in (200, 200, 500, 404, 200, 503) * 5:
        answered_by = traffic.send("atlas-qa", status=status)
        sent[answered_by] += 1
        failed[answered_by] += status >= 500
    counts = traffic.metrics.counts()
    for server in servers[:2]:
        assert counts[server.name].requests == sent[server.name]
        assert counts[server.name].failures == failed[server.name]
        assert counts[server.name].abandoned == 0
        assert counts[server.name].slow(5.0) == 0
    assert servers[2].name not in counts


def test_counts_of_a_deployment_outlive_its_route(traffic: Traffic, servers: list[ModelServer]) -> None:
    traffic.gateway.apply(table(route((serving(servers[0]), 100))))
    traffic.send("atlas-qa")
    traffic.gateway.apply(RouteTable())
    assert traffic.metrics.counts()[servers[0].name].requests == 1


def test_releases_of_many_models_at_one_moment_lose_no_route(traffic: Traffic) -> None:
    models = [f"model-{number}" for number in range(8)]

    def release(model: str) -> None:
        traffic.gateway.revise(lambda table: table.with_route(route((deployment(f"{model}-1", 1, model=model), 100))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(release, models))
    assert sorted(one.model for one in traffic.gateway.current().routes) == models


def test_one_name_for_two_servers_is_refused_and_changes_nothing(traffic: Traffic) -> None:
    sound = table(route((deployment("twice", 1), 100)))
    traffic.gateway.apply(sound)
    contradiction = table(route((deployment("twice", 1), 100)), route((deployment("twice", 2, model="other"), 100)))
    with pytest.raises(InputError, match="two under one name"):
        traffic.gateway.apply(contradiction)
    assert traffic.gateway.current() == sound
