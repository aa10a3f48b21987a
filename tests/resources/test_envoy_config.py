"""The route table as Envoy's configuration, without Envoy."""

import json

from hypothesis import given
from hypothesis import strategies as st

from llmops_core.routing import RouteTable
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS
from resources.traffic.envoy_bootstrap import bootstrap, bucket_milliseconds
from resources.traffic.envoy_config import cluster_name, clusters, deployment_of, discovery, routes
from tests.fakes.platform import deployment, route, table


@given(st.text(min_size=1))
def test_every_deployment_name_comes_back_from_its_cluster_name(name: str) -> None:
    encoded = cluster_name(name)
    assert deployment_of(encoded) == name
    assert not set(encoded) & set('.:/~ "\\{}\n,=')


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_deployments_never_share_a_cluster(one: str, two: str) -> None:
    assert (cluster_name(one) == cluster_name(two)) == (one == two)


def test_the_gateways_own_clusters_are_no_deployments() -> None:
    assert deployment_of("") is None
    assert deployment_of("~ready-production-atlas-qa") is None


@given(st.sampled_from(LATENCY_EDGES_SECONDS))
def test_a_bucket_ends_where_the_next_bin_begins(edge: float) -> None:
    """Envoy's bins hold two significant digits: the bucket's own bin must end exactly at the edge."""
    start = bucket_milliseconds(edge)
    digits, exponent = f"{start:.1e}".split("e")
    end = (float(digits) + 0.1) * 10 ** int(exponent)
    assert float(f"{start:.1e}") == start, "the bucket is the start of a bin"
    assert abs(end - edge * 1000) < 1e-6 * end


def test_the_version_changes_with_what_clients_see_and_with_nothing_else() -> None:
    one, two = deployment("one", 1), deployment("two", 2)
    base = table(route((one, 90), (two, 10)), route((two, 100), environment="staging"))
    turned = RouteTable(routes=tuple(reversed(base.routes)))
    assert routes(base, "home")[0] == routes(turned, "home")[0]
    assert routes(base, "home")[0] != routes(base, "other home")[0]
    assert routes(base, "home")[0] != routes(base.with_route(route((one, 80), (two, 20))), "home")[0]
    assert discovery(clusters(base)) == discovery(clusters(turned))


def test_traffic_clusters_have_nothing_that_hides_a_failing_candidate() -> None:
    rendered = json.dumps([clusters(table(route((deployment("one", 1), 100))))])
    assert "health_check" not in rendered
    assert "outlier" not in rendered


def test_only_readiness_is_retried() -> None:
    _, configuration = routes(table(route((deployment("one", 1), 100))), "home")
    retried = [rule["route"]["cluster"] for rule in _rules(configuration) if "retry_policy" in rule.get("route", {})]
    assert retried and all(cluster.startswith("~ready-") for cluster in retried)


def test_host_names_are_resolved_and_addresses_are_not() -> None:
    named = deployment("named", 1).model_copy(update={"host": "models.example.com"})
    kinds = {one["name"]: one["type"] for one in clusters(table(route((deployment("plain", 1), 50), (named, 50))))}
    assert kinds == {"plain": "STATIC", "named": "STRICT_DNS", "~ready-production-atlas-qa": "STRICT_DNS"}


def test_the_most_patient_live_deployment_sets_the_timeout() -> None:
    quick, patient = deployment("quick", 1, timeout_seconds=1), deployment("patient", 2, timeout_seconds=7)
    warm = deployment("warm", 3, timeout_seconds=60)
    _, configuration = routes(table(route((quick, 90), (patient, 10), (warm, 0))), "home")
    timeouts = {r["route"]["timeout"] for r in _rules(configuration) if "weighted_clusters" in r.get("route", {})}
    assert timeouts == {"7.000s"}


def test_both_ports_listen_on_this_machine_only(tmp_path) -> None:
    rendered = bootstrap(tmp_path, 8600, 8603)
    addresses = [rendered["admin"]["address"], rendered["static_resources"]["listeners"][0]["address"]]
    assert {one["socket_address"]["address"] for one in addresses} == {"127.0.0.1"}
    assert rendered["admin"]["allow_paths"] == [{"prefix": "/stats"}, {"exact": "/ready"}]


def _rules(configuration: dict) -> list[dict]:
    return configuration["virtual_hosts"][0]["routes"]
