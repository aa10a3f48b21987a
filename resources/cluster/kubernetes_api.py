"""A thin client of the Kubernetes API: the verbs that jobs and servers need, on plain mappings, answers in our words.

The vendor's client is used for what is hard (kubeconfig, tokens that expire, certificates) and not for its models: a
list of 500 pods is read a hundred times faster as JSON. Every write says `fieldValidation=Strict`, because without it
the server drops what it does not know and says nothing. Nothing is retried here except where it is said; a watch is one
request, and whoever reads it decides what follows its end.

Every error is one of ours and says who acts; the classes below are for callers that can act themselves.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, LlmopsError, Problem, TransientError
from llmops_core.job_names import MANAGED_BY

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Manifest = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 10, 60
# Servers send a bookmark about once a minute; a connection that is silent for longer is dead.
WATCH_SECONDS, WATCH_SILENCE_SECONDS = 240, 100
PAGE = 500


@dataclass(frozen=True)
class Kind:
    """`group` is `api/v1` or `apis/<group>/<version>`."""

    group: str
    plural: str


JOBS = Kind("apis/batch/v1", "jobs")
TRAIN_JOBS = Kind("apis/trainer.kubeflow.org/v1alpha1", "trainjobs")
TRAINING_RUNTIMES = Kind("apis/trainer.kubeflow.org/v1alpha1", "trainingruntimes")
PODS = Kind("api/v1", "pods")
EVENTS = Kind("api/v1", "events")
SERVICES = Kind("api/v1", "services")
DEPLOYMENTS = Kind("apis/apps/v1", "deployments")
DISRUPTION_BUDGETS = Kind("apis/policy/v1", "poddisruptionbudgets")
HTTP_ROUTES = Kind("apis/gateway.networking.k8s.io/v1", "httproutes")


class AlreadyExists(IntegrityError):
    """An object of this name is there. Who made it is to be looked at: a caller knows its own work by it."""


class Gone(TransientError):
    """The server no longer has the history from the version that was asked for: list again."""


class NotFound(EnvironmentLacks):
    """There is no such object; or no such namespace or kind, when one is to be made."""


class Conflict(TransientError):
    """It is not the object, or not the version, that was meant; or the server lost a race of its own."""


def refuse_foreign(kind: Kind, found: Manifest, manager: str) -> None:
    """Raises IntegrityError for an object that does not say that `manager` made it: it is not ours to change."""
    if (found["metadata"].get("labels") or {}).get(MANAGED_BY) != manager:
        name = f"{kind.plural} {found['metadata']['name']}"
        raise IntegrityError(f"{name} is there, but {MANAGED_BY} is not {manager}: look who made it, then delete it")


class KubernetesApi:
    """One namespace of one cluster. Raises TransientError when it cannot answer, EnvironmentLacks when it may not."""

    def __init__(self, client: "ApiClient", namespace: str) -> None:
        self._client, self.namespace = client, namespace

    def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Raises AlreadyExists, and NotFound where the cluster has no such kind or namespace. An answer that was lost
        may mean that it was made: ask again, and see AlreadyExists."""
        return self._json("POST", self._path(kind), {"fieldValidation": "Strict"}, manifest)

    def get(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return self._json("GET", self._path(kind, name))
        except NotFound:
            return None

    def every(self, kind: Kind, selector: str = "", fields: str = "") -> list[Manifest]:
        """All objects; listed again when the pages took too long, and TransientError when they always do."""
        for _ in range(3):
            try:
                return self.list(kind, selector, fields)[0]
            except Gone:
                continue
        raise TransientError(f"the cluster forgets {kind.plural} faster than they can be listed")

    def list(self, kind: Kind, selector: str = "", fields: str = "") -> tuple[list[Manifest], str]:
        """(all objects, the version they were read at), page by page. Raises Gone when the pages took too long."""
        found: list[Manifest] = []
        asked = {"limit": str(PAGE), "labelSelector": selector, "fieldSelector": fields}
        while True:
            page = self._json("GET", self._path(kind), {name: value for name, value in asked.items() if value})
            found += page.get("items") or []
            metadata = page.get("metadata", {})
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion", ""))
            asked["continue"] = metadata["continue"]

    def delete(self, kind: Kind, name: str, uid: str, version: str = "", propagation: str = "Foreground") -> bool:
        """Deletes this very object, and what belongs to it first (or after it, with propagation Background). False if
        it is gone, or another by now."""
        conditions = {"uid": uid, **({"resourceVersion": version} if version else {})}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        try:
            self._json("DELETE", self._path(kind, name), {}, {**body, "preconditions": conditions})
        except (NotFound, Conflict):
            return False
        return True

    def label(self, kind: Kind, found: Manifest, labels: Mapping[str, str]) -> bool:
        """Changes labels of the object as it was read; False if it was changed or deleted since."""
        metadata = found["metadata"]
        patch = {"metadata": {"labels": dict(labels), "resourceVersion": metadata["resourceVersion"]}}
        try:
            self._json("PATCH", self._path(kind, metadata["name"]), {"fieldValidation": "Strict"}, patch)
        except (NotFound, Conflict):
            return False
        return True

    def replace(self, kind: Kind, found: Manifest, manifest: Manifest) -> Manifest | None:
        """Makes the object that was read be this; None if it was changed or deleted since."""
        version = {"resourceVersion": found["metadata"]["resourceVersion"], "uid": found["metadata"]["uid"]}
        body = {**manifest, "metadata": {**manifest["metadata"], **version}}
        try:
            return self._json("PUT", self._path(kind, body["metadata"]["name"]), {"fieldValidation": "Strict"}, body)
        except (NotFound, Conflict):
            return None

    def watch(self, kind: Kind, selector: str, version: str) -> Iterator[Manifest]:
        """Events after `version`, bookmarks too, until the server ends it. Raises Gone, or TransientError when cut."""
        asked = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        asked |= {"labelSelector": selector, "resourceVersion": version}
        response = self._answer("GET", self._path(kind), asked, None, WATCH_SILENCE_SECONDS)
        try:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _meaning(int(event["object"].get("code", 0)), event["object"], f"a watch of {kind.plural}")
                yield event
        except (*_CUT, ValueError, KeyError, TypeError) as error:
            raise TransientError(f"the watch was cut ({type(error).__name__})") from None
        finally:
            response.release_conn()
            response.close()

    def log(self, pod: str, lines: int, container: str = "", previous: bool = False) -> str:
        """The end of what a pod printed, or one container of it, or that container before it was started again; empty
        when nobody has it any more."""
        path = f"{self._path(PODS, pod)}/log"
        asked = {"tailLines": str(lines), "container": container, "previous": "true" if previous else ""}
        try:
            given = {name: value for name, value in asked.items() if value}
            response = self._answer("GET", path, given, None, READ_SECONDS)
            return response.read().decode(errors="replace")
        except (NotFound, InputError, TransientError, *_CUT):
            return ""

    def _path(self, kind: Kind, name: str = "") -> str:
        path = f"/{kind.group}/namespaces/{self.namespace}/{kind.plural}"
        return f"{path}/{name}" if name else path

    def _json(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Manifest | None = None
    ) -> Manifest:
        response = self._answer(method, path, query or {}, body, READ_SECONDS)
        try:
            return dict(json.loads(response.read()))
        except (*_CUT, ValueError, TypeError) as error:
            raise TransientError(f"the answer to {method} {path} was cut ({type(error).__name__})") from None

    def _answer(self, method: str, path: str, query: Mapping[str, str], body: Any, read_seconds: float) -> Any:
        """The response, its body unread. The client's own methods would read it, and stumble over failures of TLS."""
        from urllib3 import Timeout

        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": content, **self._client.default_headers}
        self._authorise(headers)
        address = f"{self._client.configuration.host}{path}{'?' if query else ''}{urlencode(query)}"
        try:
            response = self._client.rest_client.pool_manager.request(
                method,
                address,
                headers=headers,
                body=None if body is None else json.dumps(body),
                timeout=Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                preload_content=False,
                retries=False,
            )
            if response.status < 300:
                return response
            raise _meaning(response.status, _status(response.read()), f"{method} {path}")
        except _CUT as error:
            raise TransientError(f"the cluster could not be reached ({type(error).__name__})") from None

    def _authorise(self, headers: dict[str, str]) -> None:
        """Tokens expire: the vendor's client reads a file or runs a program for the next one, and may find neither."""
        from kubernetes.config import ConfigException

        try:
            self._client.update_params_for_auth(headers, [], ["BearerToken"])
        except (ConfigException, OSError, ValueError) as error:
            raise EnvironmentLacks(f"there is no token for the cluster: {error}; see the kubeconfig") from None


def _cut() -> tuple[type[Exception], ...]:
    from urllib3.exceptions import HTTPError

    return (HTTPError, OSError)


_CUT = _cut()


def _meaning(code: int, status: Mapping[str, Any], asked: str) -> LlmopsError:
    message, reason = str(status.get("message", ""))[:1000], str(status.get("reason", ""))
    # a proxy that does not find the API says 404 too; of objects the API says why, and of groups these words
    if code == 404 and (reason or "404 page not found" in message):
        return NotFound(f"the cluster has nothing for {asked}: {message}; see that the kind and namespace are there")
    if code == 409:
        there = f"the cluster refuses {asked}: {message}"
        return AlreadyExists(f"{there}; look who made it") if reason == "AlreadyExists" else Conflict(there)
    if code == 410:
        return Gone(f"the cluster no longer has the history for {asked}: {message}")
    if code in (401, 403):
        return EnvironmentLacks(f"the cluster refuses {asked}: {message or code}; give the platform this right there")
    if code in (400, 405, 413, 415, 422):
        return InputError(Problem("the cluster", asked, str(code), "a request that it accepts", message))
    return TransientError(f"the cluster cannot answer {asked} now ({code or 'no status'}: {message[:300]})")


def _status(body: Any) -> Mapping[str, Any]:
    try:
        read = json.loads(body or b"{}")
    except (ValueError, TypeError):
        return {"message": str(body)[:300]}
    return read if isinstance(read, dict) else {}


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(65536, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())


def connected(namespace: str) -> KubernetesApi:
    """One namespace of the cluster at hand. Raises EnvironmentLacks for none."""
    return KubernetesApi(client_of_cluster(), namespace)


def client_of_cluster() -> "ApiClient":
    """Of the cluster that this pod runs in, or else the one that KUBECONFIG names. Raises EnvironmentLacks for none."""
    from kubernetes import client, config
    from kubernetes.config import ConfigException
    from yaml import YAMLError

    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except ConfigException:
        try:
            # named, because the library read the variable when it was imported
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
        except (ConfigException, OSError, YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
            # it checks little of what it reads, and stumbles over a file that is no kubeconfig
            raise EnvironmentLacks(f"no cluster is known: {error}; set KUBECONFIG, or run in a pod") from None
    return client.ApiClient(configuration)
