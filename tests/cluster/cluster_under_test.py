"""The cluster that LLMOPS_TEST_KUBECONFIG names, and what these tests may assume of it.

Nothing is assumed but the API, a node that runs pods, and an image with Python and this project in it
(LLMOPS_TEST_IMAGE, pulled as LLMOPS_TEST_IMAGE_PULL_POLICY says): no GPU, no routing to ClusterIPs, no registry. Pods
must reach this machine for the object store: LLMOPS_TEST_HOST is the address, by default the one that leads to the API.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.resources.kubernetes_samples import job

Json = dict[str, Any]
Found = TypeVar("Found")
KUBECONFIG = "LLMOPS_TEST_KUBECONFIG"
GROUPS = {
    **{"jobs": "apis/batch/v1", "deployments": "apis/apps/v1"},
    **dict.fromkeys(("roles", "rolebindings"), "apis/rbac.authorization.k8s.io/v1"),
    "httproutes": "apis/gateway.networking.k8s.io/v1",
}
SECONDS = 120.0  # a real node pulls nothing here, but may be slow


@dataclass(frozen=True)
class Settings:
    kubeconfig: str
    image: str
    pull_policy: str
    host: str


def settings(environ: Mapping[str, str]) -> Settings | None:
    """None when no cluster is named."""
    path = environ.get(KUBECONFIG)
    if not path:
        return None
    image = environ.get("LLMOPS_TEST_IMAGE", "llmops-training:test")
    policy = environ.get("LLMOPS_TEST_IMAGE_PULL_POLICY", "IfNotPresent")
    return Settings(path, image, policy, environ.get("LLMOPS_TEST_HOST", ""))


class Cluster:
    """One connection for all tests. Objects come back as plain mappings, as the server sent them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection = config.new_client_from_config(settings.kubeconfig)

    def call(
        self, method: str, path: str, body: object = None, content: str = "application/json", **query: str
    ) -> Json:
        headers = {"Accept": "application/json", "Content-Type": content}
        answer = self.connection.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            response_types_map=dict.fromkeys((200, 201, 202), "object"),
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
        )
        return answer if isinstance(answer, dict) else {}

    def client(self) -> client.ApiClient:
        return config.new_client_from_config(self.settings.kubeconfig)

    def has_pods(self) -> bool:
        """Is there a node that would run one?"""
        nodes = self.call("GET", "/api/v1/nodes")["items"]
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in nodes
            if not node["spec"].get("unschedulable") and not _repels(node)
            for condition in node["status"].get("conditions") or []
        )

    def serves(self, group: str, version: str, plural: str) -> bool:
        try:
            found = self.call("GET", f"/apis/{group}/{version}")["resources"]
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return any(one["name"] == plural for one in found)

    def host(self) -> str:
        """An address of this machine that pods can reach."""
        if self.settings.host:
            return self.settings.host
        url = urlsplit(self.connection.configuration.host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((url.hostname or "127.0.0.1", url.port or 443))
            return probe.getsockname()[0]


def _repels(node: Json) -> bool:
    return any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in node["spec"].get("taints") or [])


class Namespace:
    """A namespace of one test, which deletes it with all that is in it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def path(self, plural: str, name: str = "") -> str:
        group = GROUPS.get(plural, "api/v1")
        return f"/{group}/namespaces/{self.name}/{plural}" + (f"/{name}" if name else "")

    def create(self, plural: str, found: Json, **query: str) -> Json:
        return self.cluster.call("POST", self.path(plural), found, fieldValidation="Strict", **query)

    def get(self, plural: str, name: str) -> Json | None:
        try:
            return self.cluster.call("GET", self.path(plural, name))
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def patch(self, plural: str, name: str, change: Json) -> Json:
        content = "application/merge-patch+json"
        return self.cluster.call("PATCH", self.path(plural, name), change, content, fieldValidation="Strict")

    def delete(self, plural: str, name: str, policy: str = "Foreground") -> None:
        self.cluster.call("DELETE", self.path(plural, name), {"propagationPolicy": policy})

    def items(self, plural: str, selector: str = "") -> list[Json]:
        return self.cluster.call("GET", self.path(plural), labelSelector=selector)["items"]

    def job(self, name: str, command: list[str], **spec: Any) -> Json:
        """Creates a job of the image under test."""
        container = {
            "image": self.cluster.settings.image,
            "imagePullPolicy": self.cluster.settings.pull_policy,
            "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "10m"}},
        } | spec.pop("container", {})
        pod = {"terminationGracePeriodSeconds": 2, "automountServiceAccountToken": False} | spec.pop("pod", {})
        return self.create("jobs", job(name, command, container=container, pod=pod, **spec))

    def pod_of(self, job: str) -> Json | None:
        found = self.items("pods", f"batch.kubernetes.io/job-name={job}")
        return found[-1] if found else None

    def running_pod(self, job: str) -> Json:
        def running() -> Json | None:
            pod = self.pod_of(job)
            return pod if pod and pod["status"].get("phase") == "Running" else None

        return wait_for(running, f"no pod of {job} runs")

    def ended(self, job: str) -> Json:
        """The job, when it is complete or has failed."""

        def over() -> Json | None:
            found = self.get("jobs", job)
            return found if found and final_condition(found) else None

        return wait_for(over, f"{job} does not end")

    def log(self, pod: Json) -> str:
        core = client.CoreV1Api(self.cluster.connection)
        answer = core.read_namespaced_pod_log(pod["metadata"]["name"], self.name, _preload_content=False)
        return answer.data.decode()


def final_condition(job: Json) -> Json | None:
    held = job["status"].get("conditions") or []
    return next((one for one in held if one["type"] in ("Complete", "Failed") and one["status"] == "True"), None)


def terminated(pod: Json) -> Json:
    """How the only container of a pod ended."""
    (status,) = pod["status"]["containerStatuses"]
    return status["state"]["terminated"]


def wait_for(found: Callable[[], Found | None], what: str, seconds: float = SECONDS) -> Found:
    until = time.monotonic() + seconds
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < until, what
        time.sleep(0.1)


def named_by_environment() -> Settings | None:
    return settings(os.environ)
