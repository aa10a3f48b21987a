"""Network policies, disruption budgets and monitors select what they are meant to: a selector that matches nothing is
accepted by every API server."""

import re

import pytest

from llmops_core.job_names import JobIdentity, labels
from tests.core.test_serving_manifest import LARGE, made
from tests.deploy.kustomize import Manifest
from tests.deploy.manifests import ENVIRONMENTS, ROOT, containers, named, of_kind, one, overlay, pods
from tests.deploy.test_helm import merged, parts_of_the_chart

environments = pytest.mark.parametrize("environment", ENVIRONMENTS)
# what makes pods besides these manifests: the platform's own code
JOB = labels(JobIdentity("atlas-qa", "weights", "finetune", "f" * 64), 1, "run")
SERVER = {"app.kubernetes.io/component": "model-server"}
SERVERS = made(LARGE)
PROXY = {"gateway.networking.k8s.io/gateway-name": "models"}  # set by the Gateway API's own convention (GEP-1762)


@environments
def test_a_namespace_in_which_pods_talk_freely(environment: str) -> None:
    for space in of_kind(environment, "Namespace"):
        denied = [
            policy
            for policy in of_kind(environment, "NetworkPolicy")
            if policy["metadata"]["namespace"] == space["metadata"]["name"]
            and policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        ]
        assert denied, named(space)


@environments
def test_a_policy_that_is_about_no_pod(environment: str) -> None:
    for policy in of_kind(environment, "NetworkPolicy"):
        known = pods_of(environment, policy["metadata"]["namespace"])
        assert any(matches(policy["spec"]["podSelector"], each) for each in known), named(policy)


@environments
def test_a_policy_that_lets_nobody_in(environment: str) -> None:
    spaces = [labels_of(space) for space in of_kind(environment, "Namespace")]
    # these are other people's namespaces, which docs/kubernetes.md says to label
    spaces += [{"kubernetes.io/metadata.name": "kube-system"}, {"llmops.dev/gateway": "true"}]
    spaces += [{"llmops.dev/monitoring": "true"}, {"llmops.dev/storage": "true"}]
    for policy in of_kind(environment, "NetworkPolicy"):
        known = pods_of(environment, policy["metadata"]["namespace"])
        for peer in peers(policy):
            if "namespaceSelector" in peer:
                assert any(matches(peer["namespaceSelector"], each) for each in spaces), named(policy)
            elif "podSelector" in peer:
                assert any(matches(peer["podSelector"], each) for each in known), named(policy)


@environments
def test_pods_of_another_environment_are_let_in_or_reached(environment: str) -> None:
    """Environments may share a cluster: what follows a branch under work must not ask the servers of production."""
    others = [space for name in ENVIRONMENTS if name != environment for space in of_kind(name, "Namespace")]
    for policy in of_kind(environment, "NetworkPolicy"):
        for selector in [peer["namespaceSelector"] for peer in peers(policy) if "namespaceSelector" in peer]:
            assert not any(matches(selector, labels_of(space)) for space in others), named(policy)


@environments
def test_pods_reach_the_credentials_of_their_node(environment: str) -> None:
    for policy in of_kind(environment, "NetworkPolicy"):
        for peer in peers(policy):
            if peer.get("ipBlock", {}).get("cidr") not in (None, "169.254.20.10/32"):  # that one is NodeLocal DNS
                assert "169.254.169.254/32" in peer["ipBlock"]["except"], named(policy)


@environments
def test_a_disruption_budget_for_no_pod(environment: str) -> None:
    for budget in of_kind(environment, "PodDisruptionBudget"):
        known = pods_of(environment, budget["metadata"]["namespace"])
        assert any(matches(budget["spec"]["selector"], each) for each in known), named(budget)
        assert budget["spec"]["maxUnavailable"] == 1, named(budget)


@environments
def test_the_proxies_of_a_gateway_are_not_let_to_the_servers(environment: str) -> None:
    gateway = one(environment, "Gateway", "models")
    allowed = one(environment, "NetworkPolicy", "model-servers")["spec"]["ingress"][0]["from"]
    assert any(peer.get("podSelector") == {"matchLabels": PROXY} for peer in allowed)
    assert PROXY["gateway.networking.k8s.io/gateway-name"] == gateway["metadata"]["name"]
    (route,) = of_kind(environment, "HTTPRoute")
    listeners = {listener["name"] for listener in gateway["spec"]["listeners"]}
    for parent in route["spec"]["parentRefs"]:
        assert parent["name"] == gateway["metadata"]["name"] and parent["sectionName"] in listeners


@environments
def test_a_monitor_that_watches_no_server(environment: str) -> None:
    monitor = one(environment, "PodMonitor", "model-servers")
    assert monitor["spec"]["selector"]["matchLabels"] == SERVER
    template = SERVERS["spec"]["template"]
    assert SERVER.items() <= template["metadata"]["labels"].items()
    assert {*monitor["spec"]["podTargetLabels"]} <= template["metadata"]["labels"].keys()
    offered = {port["name"]: port["containerPort"] for one in containers(template) for port in one.get("ports", [])}
    assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} == offered.keys()
    open_ports = {
        port["port"]
        for rule in one(environment, "NetworkPolicy", "model-servers")["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert open_ports == set(offered.values()), "a port that is scraped or asked is closed, or another is open"


@environments
def test_the_gateways_proxies_of_another_environment_are_counted_as_ours(environment: str) -> None:
    gateway, monitor = one(environment, "Gateway", "models"), one(environment, "PodMonitor", "gateway-proxies")
    assert monitor["spec"]["selector"]["matchLabels"] == {
        "gateway.envoyproxy.io/owning-gateway-name": gateway["metadata"]["name"],
        "gateway.envoyproxy.io/owning-gateway-namespace": gateway["metadata"]["namespace"],
    }
    told = re.findall(r"gateway-helm --namespace (\S+)", (ROOT / "docs" / "kubernetes.md").read_text())
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == told


@environments
def test_dagsters_pages_are_served_where_no_policy_lets_in(environment: str) -> None:
    webserver = merged(environment)["dagsterWebserver"]
    port = webserver["service"]["port"]
    assert port > 1024, "not every container runtime lets a user without rights listen there"
    assert {webserver[f"{probe}Probe"]["httpGet"]["port"] for probe in ("readiness", "startup", "liveness")} == {port}
    policy = one(environment, "NetworkPolicy", "dagster")["spec"]
    assert port in {each["port"] for each in policy["ingress"][0]["ports"]}
    assert port in {each["port"] for each in policy["egress"][0]["ports"]}


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_queue_that_leads_nowhere(environment: str) -> None:
    (queue,), flavors = of_kind(environment, "ClusterQueue"), of_kind(environment, "ResourceFlavor")
    (local,) = of_kind(environment, "LocalQueue")
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    spaces = [s["metadata"]["name"] for s in of_kind(environment, "Namespace")]
    assert queue["spec"]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] in spaces
    assert local["metadata"]["namespace"] in spaces
    for group in queue["spec"]["resourceGroups"]:
        assert [f["name"] for f in group["flavors"]] == [flavor["metadata"]["name"] for flavor in flavors]
        for each in group["flavors"]:
            assert [resource["name"] for resource in each["resources"]] == group["coveredResources"]


def labels_of(space: Manifest) -> dict[str, str]:
    """As the API server has them: it adds the name to every namespace's."""
    return {**space["metadata"]["labels"], "kubernetes.io/metadata.name": space["metadata"]["name"]}


def pods_of(environment: str, namespace: str) -> list[dict[str, str]]:
    """Labels of every pod that will live there, whoever makes it."""
    found = [
        t["metadata"]["labels"]
        for owner, t in pods(overlay(environment))
        if owner["metadata"]["namespace"] == namespace
    ]
    others = parts_of_the_chart() if namespace.startswith("llmops-") else [JOB, SERVER, PROXY]
    return found + others


def peers(policy: Manifest) -> list[dict[str, dict[str, dict[str, str]]]]:
    rules = policy["spec"].get("ingress", []) + policy["spec"].get("egress", [])
    return [peer for rule in rules for peer in rule.get("from", []) + rule.get("to", [])]


def matches(selector: dict, labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for wanted in selector.get("matchExpressions", []):
        if wanted["operator"] == "Exists" and wanted["key"] not in labels:
            return False
        if wanted["operator"] == "In" and labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return True
