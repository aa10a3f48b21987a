"""A Gateway that is there but leads nowhere, and a PodMonitor that picks nobody, look well to every API server."""

from copy import deepcopy
from typing import Any

import pytest

from llmops_core.doctor import Health
from llmops_core.gateway_state import judge_class, judge_gateway
from llmops_core.monitor_state import judge_monitors, judge_scrapes

SPEC = {"gatewayClassName": "models", "listeners": [{"name": "http"}, {"name": "https"}]}


def served(spec: dict[str, Any]) -> dict[str, Any]:
    """The status of a Gateway that an implementation serves."""
    good = [{"type": kind, "status": "True", "observedGeneration": 1} for kind in ("Accepted", "Programmed")]
    resolved = {"type": "ResolvedRefs", "status": "True", "observedGeneration": 1}
    listeners = [{"name": each["name"], "conditions": [*deepcopy(good), dict(resolved)]} for each in spec["listeners"]]
    return {"conditions": good, "listeners": listeners, "addresses": [{"type": "IPAddress", "value": "192.0.2.7"}]}


def gateway() -> dict[str, Any]:
    return {"metadata": {"name": "models", "generation": 1}, "spec": deepcopy(SPEC), "status": served(SPEC)}


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (chosen,) = [each for each in found["conditions"] if each["type"] == kind]
    return chosen


def test_a_gateway_that_is_served_was_called_broken() -> None:
    found = judge_gateway(gateway(), "https")
    assert found.verdict is Health.OK and "192.0.2.7" in found.found


@pytest.mark.parametrize("status", [{}, None, {"conditions": [{"type": "Accepted", "status": "Unknown"}]}])
def test_a_gateway_without_a_controller_was_called_served(status: dict[str, Any] | None) -> None:
    found = judge_gateway({**gateway(), "status": status}, None)
    assert found.verdict is Health.FAILED and "nobody serves it" in found.found and "models" in found.mend


def test_a_listener_without_its_certificate_was_called_served() -> None:
    broken = gateway()
    lacks = {"status": "False", "reason": "InvalidCertificateRef", "message": "Secret models-tls not found"}
    condition(broken["status"]["listeners"][1], "ResolvedRefs").update(lacks)
    found = judge_gateway(broken, "https")
    assert found.verdict is Health.FAILED and "models-tls" in found.found and "certificate" in found.mend
    assert judge_gateway(broken, "http").verdict is Health.OK  # nobody attaches to the other


def test_a_gateway_without_an_address_was_called_served() -> None:
    broken = gateway()
    condition(broken["status"], "Programmed").update({"status": "False", "reason": "AddressNotAssigned"})
    found = judge_gateway(broken, None)
    assert found.verdict is Health.FAILED and "AddressNotAssigned" in found.found


@pytest.mark.parametrize("kind", ["Accepted", "Programmed", "ResolvedRefs"])
@pytest.mark.parametrize("where", ["gateway", "listener", "all of the listener"])
def test_what_nobody_said_of_a_gateway_was_taken_for_good(kind: str, where: str) -> None:
    silent = gateway()
    status = silent["status"]
    place = status if where == "gateway" else status["listeners"][1]
    place["conditions"] = [each for each in place["conditions"] if each["type"] != kind]
    if where == "all of the listener":
        del status["listeners"][1]
    asked_of_it = where != "gateway" or kind != "ResolvedRefs"
    found = judge_gateway(silent, "https")
    assert found.verdict is (Health.UNKNOWN if asked_of_it else Health.OK), found
    assert judge_gateway(silent, "http").verdict is (Health.OK if where != "gateway" else found.verdict)


def test_what_nobody_said_hid_what_failed() -> None:
    broken = gateway()
    listener = broken["status"]["listeners"][1]
    condition(listener, "Programmed").update({"status": "False", "reason": "Invalid"})
    listener["conditions"] = [each for each in listener["conditions"] if each["type"] != "ResolvedRefs"]
    assert judge_gateway(broken, "https").verdict is Health.FAILED


def test_routes_attach_to_a_listener_that_is_not_there() -> None:
    found = judge_gateway(gateway(), "tls")
    assert found.verdict is Health.FAILED and "no listener tls" in found.found and "https" in found.mend


def test_what_a_controller_said_of_the_gateway_before_counted_for_the_one_of_now() -> None:
    changed = gateway()
    changed["metadata"]["generation"] = 2
    assert judge_gateway(changed, "https").verdict is Health.UNKNOWN


@pytest.mark.parametrize(
    ("conditions", "verdict"),
    [
        ([{"type": "Accepted", "status": "True"}], Health.OK),
        ([{"type": "Accepted", "status": "Unknown", "reason": "Pending"}], Health.FAILED),
        ([{"type": "Accepted", "status": "False", "reason": "InvalidParameters"}], Health.FAILED),
        ([], Health.FAILED),
    ],
)
def test_a_class_that_no_controller_took_was_called_served(conditions: list[dict[str, str]], verdict: Health) -> None:
    found = {"spec": {"controllerName": "example.com/gateway"}, "status": {"conditions": conditions}}
    assert judge_class("models", found).verdict is verdict
    assert judge_class("models", None).verdict is Health.FAILED


LABELS = {"app.kubernetes.io/component": "model-server", "llmops.dev/model": "atlas-qa"}


@pytest.mark.parametrize(
    ("selector", "port", "verdict"),
    [
        ({"matchLabels": {"app.kubernetes.io/component": "model-server"}}, "http", Health.OK),
        ({}, "http", Health.OK),
        ({"matchLabels": {"app": "model-server"}}, "http", Health.FAILED),
        ({"matchLabels": {"app.kubernetes.io/component": "model-server"}}, "engine", Health.FAILED),
        ({"matchExpressions": [{"key": "llmops.dev/model", "operator": "Exists"}]}, "http", Health.OK),
        ({"matchExpressions": [{"key": "llmops.dev/model", "operator": "DoesNotExist"}]}, "http", Health.FAILED),
        ({"matchExpressions": [{"key": "llmops.dev/model", "operator": "In", "values": ["x"]}]}, "http", Health.FAILED),
        ({"matchExpressions": [{"key": "llmops.dev/model", "operator": "NotIn", "values": ["x"]}]}, "http", Health.OK),
    ],
)
def test_a_monitor_that_picks_other_pods_was_called_fitting(
    selector: dict[str, Any], port: str, verdict: Health
) -> None:
    monitor = {"metadata": {"name": "m"}, "spec": {"selector": selector, "podMetricsEndpoints": [{"port": port}]}}
    assert judge_monitors([monitor], LABELS, "http").verdict is verdict
    assert judge_monitors([], LABELS, "http").verdict is Health.FAILED


def test_a_server_that_prometheus_does_not_read_was_overlooked() -> None:
    assert judge_scrapes("http://p", 0, 0).verdict is Health.OK
    assert judge_scrapes("http://p", 1, 2).verdict is Health.FAILED
    assert judge_scrapes("http://p", 3, 2).verdict is Health.OK  # one has just ended
