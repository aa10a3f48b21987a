"""What the API of a cluster refuses, in our words: every verb raises an error of ours that says who acts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.config import ConfigException

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, LlmopsError, TransientError
from resources.cluster.cluster_view import ClusterView
from resources.cluster.kubernetes_api import JOBS, PODS, AlreadyExists, Kind, KubernetesApi, client_of_cluster
from tests.fakes.kubernetes_api import KubernetesApi as StandIn
from tests.resources.kubernetes_samples import NAMESPACE

NOWHERE = Kind("apis/nobody.example.com/v1", "things")
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "one"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b:1"}]}}},
}
Call = Callable[[KubernetesApi, Any], Any]
CALLS: dict[str, Call] = {
    "create": lambda api, made: api.create(JOBS, {**JOB, "metadata": {"name": "two"}}),
    "get": lambda api, made: api.get(JOBS, "one"),
    "list": lambda api, made: api.list(JOBS),
    "every": lambda api, made: api.every(JOBS),
    "delete": lambda api, made: api.delete(JOBS, "one", made["metadata"]["uid"]),
    "patch": lambda api, made: api.label(JOBS, made, {"a": "b"}),
    "update": lambda api, made: api.replace(JOBS, made, JOB),
    "watch": lambda api, made: next(api.watch(JOBS, "", made["metadata"]["resourceVersion"])),
}


@pytest.fixture
def api(stand_in: StandIn) -> Iterator[KubernetesApi]:
    yield KubernetesApi(stand_in.client(), NAMESPACE)
    stand_in.faults.clear()


@pytest.fixture
def made(stand_in: StandIn, api: KubernetesApi) -> dict[str, Any]:
    return stand_in.get("jobs", "one", NAMESPACE) or api.create(JOBS, JOB)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422, 429, 500, 503])
@pytest.mark.parametrize("verb", CALLS)
def test_an_exception_of_the_api_escaped_from_its_door(
    stand_in: StandIn, api: KubernetesApi, made: dict[str, Any], verb: str, status: int
) -> None:
    stand_in.faults.refuse(status, verb="list" if verb == "every" else verb, resource="jobs", times=4)
    try:
        answer = CALLS[verb](api, made)
    except LlmopsError as error:
        wanted = {400: InputError, 403: EnvironmentLacks, 404: EnvironmentLacks, 422: InputError}
        assert isinstance(error, wanted.get(status, TransientError)) and (verb in ("every",) or "jobs" in str(error))
    else:
        told = {"get": None, "delete": False, "patch": False, "update": None}
        assert status in (404, 409) and answer == told[verb], "what was refused seems to be done"


def test_a_proxy_that_lost_the_api_said_that_a_job_is_gone(
    api: KubernetesApi, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is gone is done again: beside one that goes on."""
    page = SimpleNamespace(status=404, read=lambda: b"<html>404 Not Found<hr>nginx</html>")
    pool = api._client.rest_client.pool_manager
    monkeypatch.setattr(pool, "request", lambda *_, **__: page)
    for call in (api.get, api.delete):
        with pytest.raises(TransientError):
            call(JOBS, "one", *([] if call == api.get else ["uid"]))


def test_a_kind_that_the_cluster_has_not_was_a_raw_exception(api: KubernetesApi) -> None:
    thing = {"apiVersion": "nobody.example.com/v1", "kind": "Thing", "metadata": {"name": "x"}}
    for call in (
        lambda: api.create(NOWHERE, thing),
        lambda: api.list(NOWHERE),
        lambda: next(api.watch(NOWHERE, "", "")),
    ):
        with pytest.raises(EnvironmentLacks, match=r"kind and namespace are there"):
            call()
    assert api.get(NOWHERE, "x") is None


def test_a_name_that_is_taken_was_no_error_of_ours(api: KubernetesApi, made: dict[str, Any]) -> None:
    with pytest.raises(AlreadyExists, match="look who made it") as raised:
        api.create(JOBS, JOB)
    assert isinstance(raised.value, IntegrityError)


@pytest.mark.parametrize("broken", [ConfigException("the program gcloud is not there"), OSError("no such file")])
def test_a_token_that_cannot_be_had_was_a_raw_exception(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    client = stand_in.client()

    def fails(*_: Any, **__: Any) -> None:
        raise broken

    monkeypatch.setattr(client, "update_params_for_auth", fails)
    with pytest.raises(EnvironmentLacks, match="no token for the cluster"):
        KubernetesApi(client, NAMESPACE).get(PODS, "x")
    with pytest.raises(LlmopsError):
        ClusterView(client).version()


@pytest.mark.parametrize("content", ["{", "%\n", "- 1", "clusters: 7", 'current-context: "x"'])
def test_a_kubeconfig_that_is_none_was_a_raw_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "kubeconfig").write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with pytest.raises(EnvironmentLacks, match="KUBECONFIG"):
        client_of_cluster()
