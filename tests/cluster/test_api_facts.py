"""What the doors take for granted of an API server. No pod is needed."""

import json

import pytest
from kubernetes.client.exceptions import ApiException

from tests.cluster.cluster_under_test import Cluster, Namespace, wait_for
from tests.resources.kubernetes_samples import config_map, deployment, job


def test_a_field_that_nobody_knows_was_taken_as_a_setting(namespace: Namespace) -> None:
    with pytest.raises(ApiException) as error:
        namespace.create("jobs", job("a", container={"env": [{"name": "A", "valu": "x"}]}))
    assert error.value.status == 400
    assert 'unknown field "spec.template.spec.containers[0].env[0].valu"' in json.loads(error.value.body)["message"]


def test_a_second_job_of_one_name_was_made(namespace: Namespace) -> None:
    namespace.create("jobs", job("a", suspend=True))
    with pytest.raises(ApiException) as error:
        namespace.create("jobs", job("a", suspend=True))
    assert (error.value.status, json.loads(error.value.body)["reason"]) == (409, "AlreadyExists")


def test_a_job_was_deleted_that_is_not_the_one_that_was_read(namespace: Namespace) -> None:
    namespace.create("jobs", job("a", suspend=True))
    options = {"propagationPolicy": "Foreground", "preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    with pytest.raises(ApiException) as error:
        namespace.cluster.call("DELETE", namespace.path("jobs", "a"), options)
    assert error.value.status == 409 and namespace.get("jobs", "a") is not None
    namespace.delete("jobs", "a")
    wait_for(lambda: namespace.get("jobs", "a") is None, "the job does not go")


def test_a_change_of_an_old_version_overwrote_a_newer_one(namespace: Namespace) -> None:
    old = namespace.create("configmaps", config_map("c"))
    namespace.patch("configmaps", "c", {"data": {"a": "1"}})
    with pytest.raises(ApiException) as error:
        namespace.patch("configmaps", "c", {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}})
    assert (error.value.status, json.loads(error.value.body)["reason"]) == (409, "Conflict")


def test_a_watch_lost_what_happened_after_a_list(namespace: Namespace) -> None:
    path = namespace.path("configmaps")
    version = namespace.cluster.call("GET", path)["metadata"]["resourceVersion"]
    namespace.create("configmaps", config_map("a", w="1"))
    namespace.patch("configmaps", "a", {"metadata": {"labels": {"w": "2"}}})
    namespace.delete("configmaps", "a")
    asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "2", "labelSelector": "w=1"}
    stream = namespace.cluster.connection.call_api(
        path, "GET", query_params=list(asked.items()), _preload_content=False, auth_settings=["BearerToken"]
    )
    told = [json.loads(line)["type"] for line in stream.data.splitlines()]
    assert told == ["ADDED", "DELETED"]


def test_a_watch_from_forgotten_history_looked_like_silence(namespace: Namespace) -> None:
    asked = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "2"}
    stream = namespace.cluster.connection.call_api(
        namespace.path("jobs"),
        "GET",
        query_params=list(asked.items()),
        _preload_content=False,
        auth_settings=["BearerToken"],
    )
    (event,) = [json.loads(line) for line in stream.data.splitlines()]
    assert event["type"] == "ERROR" and event["object"]["code"] == 410


def test_a_pod_that_fits_nowhere_said_nothing(namespace: Namespace, pods: None) -> None:
    limits = {"resources": {"limits": {"example.com/nothing": "1"}}}
    namespace.job("a", ["true"], container=limits)

    def refused() -> list[dict[str, str]]:
        pod = namespace.pod_of("a") or {"status": {}}
        held = pod["status"].get("conditions") or []
        return [one for one in held if one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable"]

    (told,) = wait_for(refused, "nobody says why the pod waits")
    assert "Insufficient example.com/nothing" in told["message"]


def test_a_route_kept_its_old_weights(namespace: Namespace, cluster: Cluster) -> None:
    if not cluster.serves("gateway.networking.k8s.io", "v1", "httproutes"):
        pytest.skip("this cluster has no HTTPRoute: the Gateway API is not installed")

    def rules(stable: int, candidate: int) -> list[dict[str, object]]:
        weights = {"stable": stable, "candidate": candidate}
        return [{"backendRefs": [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]}]

    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"}}
    namespace.create("httproutes", body | {"spec": {"parentRefs": [{"name": "g"}], "rules": rules(100, 0)}})
    namespace.patch("httproutes", "r", {"spec": {"rules": rules(90, 10)}})
    found = namespace.get("httproutes", "r") or {}
    assert [one["weight"] for one in found["spec"]["rules"][0]["backendRefs"]] == [90, 10]
    assert found["metadata"]["generation"] == 2


def test_a_deployment_took_a_selector_that_selects_nothing(namespace: Namespace) -> None:
    wrong = deployment("d", "i:1")
    wrong["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    with pytest.raises(ApiException) as error:
        namespace.create("deployments", wrong)
    assert error.value.status == 422 and "`selector` does not match template `labels`" in error.value.body
