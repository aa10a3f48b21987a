"""The stand-in of the Kubernetes API, spoken to by the official client. What is expected here is what an API server of
version 1.36 answered to the same requests."""

import json
from collections.abc import Iterator

import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.fakes.kubernetes_api import KubernetesApi
from tests.resources.kubernetes_samples import config_map, job


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as api:
        yield api


@pytest.fixture
def batch(api: KubernetesApi) -> Iterator[client.BatchV1Api]:
    with api.client() as connection:
        yield client.BatchV1Api(connection)


@pytest.fixture
def core(api: KubernetesApi) -> Iterator[client.CoreV1Api]:
    with api.client() as connection:
        yield client.CoreV1Api(connection)


def refusal(error: ApiException) -> tuple[int, str, str]:
    body = json.loads(error.body)
    return body["code"], body["reason"], body["message"]


def test_a_second_job_of_one_name_was_made(batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a"))
    with pytest.raises(ApiException) as error:
        batch.create_namespaced_job("default", job("a"))
    assert refusal(error.value) == (409, "AlreadyExists", 'jobs.batch "a" already exists')


def test_a_job_was_made_where_there_is_no_namespace(batch: client.BatchV1Api) -> None:
    with pytest.raises(ApiException) as error:
        batch.create_namespaced_job("nowhere", job("a"))
    assert refusal(error.value) == (404, "NotFound", 'namespaces "nowhere" not found')


def test_a_field_that_nobody_knows_was_taken_as_a_setting(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    wrong = job("a", container={"env": [{"name": "A", "valu": "x"}]}, backofLimit=1)
    with pytest.raises(ApiException) as error:
        batch.create_namespaced_job("default", wrong, field_validation="Strict")
    unknown = 'unknown field "spec.template.spec.containers[0].env[0].valu", unknown field "spec.backofLimit"'
    about = 'Job in version "v1" cannot be handled as a Job: strict decoding error: '
    assert refusal(error.value) == (400, "BadRequest", about + unknown)
    _, _, headers = batch.create_namespaced_job_with_http_info("default", wrong)
    assert "unknown field" in headers["Warning"]
    made = api.get("jobs", "a")
    assert made is not None and "backofLimit" not in made["spec"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"metadata": {"name": "Bad_Name"}}, "metadata.name: Invalid value"),
        ({"metadata": {"name": "a", "labels": {"x": "-"}}}, "metadata.labels: Invalid value"),
        ({"metadata": {"name": "a" * 64}}, "spec.template.labels: Invalid value"),
        ({"spec": job("a", pod={"restartPolicy": "Always"})["spec"]}, "spec.template.spec.restartPolicy: Required"),
        ({"spec": job("a", container={"image": ""})["spec"]}, "containers[0].image: Required value"),
        (
            {"spec": job("a", container={"volumeMounts": [{"name": "v", "mountPath": "/x"}]})["spec"]},
            'volumeMounts[0].name: Not found: "v"',
        ),
        (
            {"spec": job("a", container={"resources": {"requests": {"nvidia.com/gpu": 1}}})["spec"]},
            "Limit must be set for non overcommitable resources",
        ),
    ],
)
def test_what_the_schema_allows_and_the_server_refuses_was_taken(
    batch: client.BatchV1Api, change: dict[str, object], where: str
) -> None:
    with pytest.raises(ApiException) as error:
        batch.create_namespaced_job("default", job("a") | change, field_validation="Strict")
    assert error.value.status == 422 and where in refusal(error.value)[2]


def test_a_value_of_a_wrong_type_was_taken(batch: client.BatchV1Api) -> None:
    with pytest.raises(ApiException) as error:
        batch.create_namespaced_job("default", job("a", backoffLimit="zero"))
    told = "json: cannot unmarshal string into Go struct field JobSpec.spec.backoffLimit of type int32"
    assert told in refusal(error.value)[2]


def test_a_change_of_an_old_version_overwrote_a_newer_one(core: client.CoreV1Api) -> None:
    old = core.create_namespaced_config_map("default", config_map("c"))
    core.patch_namespaced_config_map("c", "default", {"data": {"a": "1"}})
    with pytest.raises(ApiException) as error:
        core.replace_namespaced_config_map("c", "default", old)
    assert refusal(error.value)[:2] == (409, "Conflict")
    same = core.patch_namespaced_config_map("c", "default", {"data": {"a": "1"}})
    assert same.metadata.resource_version == core.read_namespaced_config_map("c", "default").metadata.resource_version


def test_the_template_of_a_running_job_was_changed(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    batch.create_namespaced_job("default", job("a"))
    api.settle()
    container = {"name": "main", "env": [{"name": "A", "value": "1"}]}
    with pytest.raises(ApiException) as error:
        batch.patch_namespaced_job("a", "default", {"spec": {"template": {"spec": {"containers": [container]}}}})
    assert error.value.status == 422 and "field is immutable" in refusal(error.value)[2]


def test_a_strategic_patch_replaced_a_list_of_containers(api: KubernetesApi) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": n, "image": "i:1"} for n in ("a", "b")]}}
    with api.client() as connection:
        core = client.CoreV1Api(connection)
        core.create_namespaced_pod("default", pod)
        core.patch_namespaced_pod("p", "default", {"spec": {"containers": [{"name": "b", "image": "i:2"}]}})
        found = core.read_namespaced_pod("p", "default")
    assert [one.image for one in found.spec.containers] == ["i:1", "i:2"]


def test_selectors_were_ignored(core: client.CoreV1Api) -> None:
    for name, labels in {"a": {"x": "1", "y": "1"}, "b": {"x": "2"}, "c": {}}.items():
        core.create_namespaced_config_map("default", config_map(name, **labels))

    def names(**asked: str) -> list[str]:
        return [one.metadata.name for one in core.list_namespaced_config_map("default", **asked).items]

    assert names(label_selector="x") == ["a", "b"] and names(label_selector="x in (1,3),y=1") == ["a"]
    assert names(label_selector="x!=1") == ["b", "c"] and names(label_selector="!x") == ["c"]
    assert names(field_selector="metadata.name=b") == ["b"]
    with pytest.raises(ApiException) as error:
        core.list_namespaced_pod("default", field_selector="spec.foo=1")
    assert refusal(error.value)[2] == "field label not supported: spec.foo"


def test_pages_of_a_list_mixed_two_versions(api: KubernetesApi, core: client.CoreV1Api) -> None:
    for name in "abcde":
        core.create_namespaced_config_map("default", config_map(name))
    first = core.list_namespaced_config_map("default", limit=2)
    core.delete_namespaced_config_map("c", "default")
    second = core.list_namespaced_config_map("default", limit=5, _continue=first.metadata._continue)
    assert [one.metadata.name for one in second.items] == ["c", "d", "e"]
    assert second.metadata.resource_version == first.metadata.resource_version
    api.forget_history()
    with pytest.raises(ApiException) as error:
        core.list_namespaced_config_map("default", limit=5, _continue=first.metadata._continue)
    assert refusal(error.value)[:2] == (410, "Expired")


def test_a_watch_lost_what_began_or_ceased_to_match(core: client.CoreV1Api) -> None:
    version = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("a", w="1"))
    core.patch_namespaced_config_map("a", "default", {"metadata": {"labels": {"w": "2"}}})
    core.patch_namespaced_config_map("a", "default", {"metadata": {"labels": {"w": "1"}}})
    core.patch_namespaced_config_map("a", "default", {"data": {"k": "1"}})
    core.delete_namespaced_config_map("a", "default")
    asked = {"label_selector": "w=1", "resource_version": version, "timeout_seconds": 1}
    told = [each["type"] for each in watch.Watch().stream(core.list_namespaced_config_map, "default", **asked)]
    assert told == ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]


def test_a_watch_from_forgotten_history_looked_like_silence(api: KubernetesApi, core: client.CoreV1Api) -> None:
    version = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("a"))
    api.forget_history()
    with pytest.raises(ApiException) as error:
        asked = {"resource_version": version, "timeout_seconds": 5}
        list(watch.Watch().stream(core.list_namespaced_config_map, "default", **asked))
    assert error.value.status == 410


def test_bookmarks_of_a_quiet_watch_did_not_come(api: KubernetesApi, core: client.CoreV1Api) -> None:
    api.watches.bookmark_seconds = 0.1
    core.create_namespaced_config_map("default", config_map("a"))
    version = core.list_namespaced_config_map("default").metadata.resource_version
    asked = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": "1"}
    path = "/api/v1/namespaces/default/configmaps"
    with api.client() as connection:
        answer = connection.call_api(
            path, "GET", query_params=list(asked.items()), _preload_content=False, auth_settings=["BearerToken"]
        )
        first = json.loads(answer.readline())
    assert first["type"] == "BOOKMARK" and first["object"]["metadata"] == {"resourceVersion": version}


def test_a_dropped_watch_ended_as_if_all_was_told(api: KubernetesApi, core: client.CoreV1Api) -> None:
    stream = watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=30)
    core.create_namespaced_config_map("default", config_map("a"))
    assert next(stream)["object"].metadata.name == "a"
    api.faults.drop_watches()
    with pytest.raises(HTTPError):
        list(stream)


def test_faults_came_too_often_or_never(api: KubernetesApi) -> None:
    api.faults.refuse(429, verb="list", resource="jobs", retry_after_seconds=3)
    api.faults.refuse(500, verb="list", resource="jobs")
    settings = client.Configuration()
    config.load_kube_config(api.kubeconfig, client_configuration=settings)
    settings.retries = False  # the client itself would wait and ask again after 429
    told = []
    with client.ApiClient(settings) as connection:
        batch = client.BatchV1Api(connection)
        for _ in range(2):
            with pytest.raises(ApiException) as error:
                batch.list_namespaced_job("default")
            told.append((error.value.status, error.value.headers.get("Retry-After")))
        assert batch.list_namespaced_job("default").items == []
    assert told == [(429, "3"), (500, None)] and api.faults.served == 2


def test_a_lost_answer_undid_the_work(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    api.faults.lose_answer("create", "jobs")
    with pytest.raises(HTTPError):
        batch.create_namespaced_job("default", job("a"), _request_timeout=5)
    assert api.get("jobs", "a") is not None


def test_an_outage_left_a_way_in(api: KubernetesApi, batch: client.BatchV1Api) -> None:
    with api.outage(), pytest.raises(HTTPError, match="refused"):
        batch.list_namespaced_job("default", _request_timeout=5)
    assert batch.list_namespaced_job("default").items == []


def test_a_wrong_token_was_let_in(api: KubernetesApi) -> None:
    with api.client() as connection:
        connection.configuration.api_key = {"authorization": "Bearer other"}
        connection.configuration.refresh_api_key_hook = None
        with pytest.raises(ApiException) as error:
            client.CoreV1Api(connection).list_namespaced_pod("default")
    assert refusal(error.value)[0] == 401
