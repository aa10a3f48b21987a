"""Looking at a cluster, as `llmops doctor` does: what it is, what may be done in it, and what is there.

Nothing is made: what is tried is a dry run, of which the server keeps nothing.
"""

import base64
import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from llmops_core.doctor import Right
from llmops_core.errors import EnvironmentLacks, InputError, Problem, TransientError
from llmops_core.gpu_nodes import Node, Taint

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Answer = dict[str, Any]
REVIEW = "authorization.k8s.io/v1"
PAGE = 500


class Hidden(EnvironmentLacks):
    """Whoever asks may not look there."""


class ClusterView:
    """One cluster. Raises TransientError where it does not answer, EnvironmentLacks where it lets nobody in, and
    Hidden, which is one, for a place that is not shown."""

    def __init__(self, client: "ApiClient") -> None:
        self._client = client

    def version(self) -> tuple[str, str, float]:
        """(version, its minor part, how many seconds this machine's clock is ahead of the server's)"""
        before = time.time()
        answer, headers = self._ask("GET", "/version")
        there = parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else before
        return str(answer["gitVersion"]), str(answer["minor"]), (before + time.time()) / 2 - there - 0.5

    def granted(self, right: Right, namespace: str) -> bool:
        attributes = {"namespace": namespace, "verb": right.verb, "group": right.group, "resource": right.resource}
        spec = {"resourceAttributes": attributes | {"subresource": right.subresource}}
        review = {"apiVersion": REVIEW, "kind": "SelfSubjectAccessReview", "spec": spec}
        answer, _ = self._ask("POST", f"/apis/{REVIEW}/selfsubjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    def kinds(self, group: str) -> dict[str, str]:
        """{kind: group/version} of a group/version, or of every version of a group; the version it prefers wins."""
        if "/" in group:
            answer = self.read(f"/apis/{group}") or {}
            return {each["kind"]: group for each in answer.get("resources", []) if "/" not in each["name"]}
        answer, _ = self._ask("GET", "/apis")
        versions = [each for each in answer.get("groups", []) if each["name"] == group]
        served: dict[str, str] = {}
        for version in versions[0]["versions"] if versions else []:
            served = {**self.kinds(version["groupVersion"]), **served}
        return served

    def exists(self, path: str) -> bool:
        """Whether the object at this path of the API is there. Raises Hidden where that is not shown."""
        return self.read(path) is not None

    def read(self, path: str) -> Answer | None:
        """What is at this path of the API, or None. Raises Hidden where it is not shown."""
        try:
            return self._ask("GET", path)[0]
        except _Absent:
            return None

    def every(self, path: str, selector: str = "") -> list[Answer] | None:
        """The objects in this collection that the selector picks; None where the cluster has no such kind."""
        found: list[Answer] = []
        asked = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            answer = self.read(f"{path}?{urlencode(asked)}")
            if answer is None:
                return None
            found += answer.get("items") or []
            if not (token := answer.get("metadata", {}).get("continue")):
                return found
            asked["continue"] = token

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        """What a Secret holds; nothing where there is none. Raises Hidden where it is not shown."""
        found = self.read(f"/api/v1/namespaces/{namespace}/secrets/{name}") or {}
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    def nodes(self) -> list[Node]:
        return [_node(each) for each in self.every("/api/v1/nodes") or []]

    def try_to_create(self, path: str, manifest: Mapping[str, Any]) -> None:
        """Asks whether the object could be made. Raises InputError with the server's reason where it could not."""
        self._ask("POST", f"{path}?dryRun=All&fieldValidation=Strict", manifest)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[Answer, Mapping[str, str]]:
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            response: Any = self._client.call_api(
                path,
                method,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(10, 30),
            )
            return json.loads(response.data or b"{}"), response.headers
        except ApiException as error:
            raise _meaning(error.status or 0, _said(error.body), f"{method} {path}") from None
        except ConfigException as error:  # a token that expired, and no other is to be had
            raise EnvironmentLacks(f"there is no token for the cluster: {error}; see the kubeconfig") from None
        except (HTTPError, OSError, ValueError) as error:
            raise TransientError(f"the cluster could not be reached ({type(error).__name__})") from None


class _Absent(InputError):
    """There is no such object."""


def _meaning(code: int, said: str, asked: str) -> Exception:
    if code == 401:
        return EnvironmentLacks("the cluster does not know these credentials: renew them, or set KUBECONFIG")
    if code == 403:
        return Hidden(said)
    if code >= 500 or code in (409, 410, 429):
        return TransientError(f"the cluster cannot answer {asked} now ({code}: {said})")
    problem = Problem("the cluster", asked, str(code), "a request that it accepts", said)
    return _Absent(problem) if code == 404 else InputError(problem)


def _said(body: Any) -> str:
    try:
        return str(json.loads(body or "{}").get("message", ""))[:500]
    except (ValueError, AttributeError):
        return str(body)[:200]


def _node(found: Answer) -> Node:
    status, spec = found.get("status") or {}, found.get("spec") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or []}
    taints = [Taint(each["key"], each.get("value", ""), each["effect"]) for each in spec.get("taints") or []]
    counts = {name: int(text) for name, text in (status.get("allocatable") or {}).items() if str(text).isdecimal()}
    labels = found["metadata"].get("labels") or {}
    return Node(found["metadata"]["name"], conditions.get("Ready") == "True", labels, tuple(taints), counts)
