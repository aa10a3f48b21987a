"""A controller of the Gateway API and its proxy, in this process: what is needed to see a route accepted and followed.

It reads HTTPRoutes from an API (the stand-in's, or a real server's that has the kind but nobody who serves it), says of
each in its status what a controller says, and sends requests by the rules: exact paths before prefixes, longer ones
first; redirects, rewrites, headers of each backend, and shares that are exact. `backends` are the Services that exist
besides those of the API, each with an address. Routes in `refused` are not accepted; while `blind`, none is seen.
"""

import http.client
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kubernetes.client import ApiClient, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from tests.fakes.ports import free_port

Json = dict[str, Any]
KIND = ("gateway.networking.k8s.io", "v1")
LOOK_SECONDS = 0.02
Address = tuple[str, int]


class PlayedGateway:
    """`url` is where it answers, from construction until `end`."""

    def __init__(self, connection: ApiClient, namespace: str, name: str = "models") -> None:
        self._custom, self._core = CustomObjectsApi(connection), CoreV1Api(connection)
        self._namespace, self._name = namespace, name
        self.backends: dict[str, Callable[[], Address]] = {}
        self.address_of_deployment: Callable[[str], Address | None] = lambda service: None
        self.refused: set[str] = set()
        self.blind = False
        self._routes: dict[str, Json] = {}
        self._owed: dict[tuple[str, str], float] = defaultdict(float)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._http = _Server(("127.0.0.1", free_port()), _Handler)
        self._http.played = self
        self._threads = [
            threading.Thread(target=self._look, daemon=True),
            threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def end(self) -> None:
        self._ended.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            if self.blind:
                continue
            try:
                found = self._custom.list_namespaced_custom_object(*KIND, self._namespace, "httproutes")["items"]
                routes = {one["metadata"]["name"]: one for one in found if self._is_ours(one)}
                for route in routes.values():
                    self._tell(route)
            except ApiException:
                continue  # changed or deleted while it was looked at
            self._routes = {name: one for name, one in routes.items() if name not in self.refused}

    def _is_ours(self, route: Json) -> bool:
        return any(parent["name"] == self._name for parent in route["spec"].get("parentRefs", []))

    def _tell(self, route: Json) -> None:
        name, generation = route["metadata"]["name"], route["metadata"]["generation"]
        accepted = name not in self.refused
        told = [
            ("Accepted", accepted, "Accepted" if accepted else "UnsupportedValue"),
            ("ResolvedRefs", True, "Resolved"),
        ]
        held = ((route.get("status") or {}).get("parents") or [{"conditions": []}])[0]["conditions"]
        known = {(one["type"], one["status"], one["observedGeneration"]) for one in held}
        if known == {(kind, str(good), generation) for kind, good, _ in told}:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        conditions = [
            {**{"type": kind, "status": str(good), "reason": reason, "message": "played"}}
            | {"observedGeneration": generation, "lastTransitionTime": now}
            for kind, good, reason in told
        ]
        parent = {"parentRef": {"name": self._name}, "controllerName": "example.com/played", "conditions": conditions}
        body = {"status": {"parents": [parent]}}
        self._custom.patch_namespaced_custom_object_status(*KIND, self._namespace, "httproutes", name, body)

    def rule_for(self, path: str) -> tuple[Json, Json] | None:
        """(rule, match) of the path."""
        found = [
            (match["path"]["type"] == "Exact", len(match["path"]["value"]), rule, match)
            for route in list(self._routes.values())
            for rule in route["spec"]["rules"]
            for match in rule.get("matches", [])
            if _matches(match["path"], path)
        ]
        best = max(found, key=lambda one: one[:2], default=None)
        return (best[2], best[3]) if best else None

    def chosen(self, rule: Json) -> Json:
        """The backend that is furthest behind its share."""
        refs, key = rule["backendRefs"], rule["matches"][0]["path"]["value"]
        total = sum(ref["weight"] for ref in refs)
        with self._lock:
            for ref in refs:
                self._owed[key, ref["name"]] += ref["weight"] / total
            best = max(refs, key=lambda ref: self._owed[key, ref["name"]])
            self._owed[key, best["name"]] -= 1
            return best

    def address_of(self, ref: Json) -> Address | None:
        if ref["name"] in self.backends:
            return self.backends[ref["name"]]()
        if (address := self.address_of_deployment(ref["name"])) is not None:
            return address
        try:
            service = self._core.read_namespaced_service(ref["name"], self._namespace)
        except ApiException:
            return None
        selector = ",".join(f"{key}={value}" for key, value in service.spec.selector.items())
        for pod in self._core.list_namespaced_pod(self._namespace, label_selector=selector).items:
            ready = {one.type: one.status for one in pod.status.conditions or []}.get("Ready")
            if ready == "True" and pod.metadata.deletion_timestamp is None:
                return pod.status.pod_ip, ref["port"]
        return None


def _matches(path: Json, asked: str) -> bool:
    if path["type"] == "Exact":
        return asked == path["value"]
    return asked == path["value"] or asked.startswith(path["value"].rstrip("/") + "/")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    played: PlayedGateway


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        path, body = self.path, self.rfile.read(int(self.headers.get("content-length") or 0))
        found = self.server.played.rule_for(path)
        if found is None:
            return self._answer(404, {}, b"")
        rule, match = found
        for one in rule.get("filters", []):
            if one["type"] == "RequestRedirect":
                location = one["requestRedirect"]["path"]["replaceFullPath"]
                return self._answer(one["requestRedirect"]["statusCode"], {"location": location}, b"")
            change = one["urlRewrite"]["path"]
            whole = change["type"] == "ReplaceFullPath"
            rest = path[len(match["path"]["value"]) :]
            path = change["replaceFullPath"] if whole else change["replacePrefixMatch"] + rest
        ref = self.server.played.chosen(rule)
        address = self.server.played.address_of(ref)
        if address is None:
            return self._answer(503, {}, b"no ready endpoint")
        return self._forward(address, path, body, ref)

    do_GET = do_POST = _serve  # noqa: N815

    def _forward(self, address: Address, path: str, body: bytes, ref: Json) -> None:
        connection = http.client.HTTPConnection(*address, timeout=30)
        try:
            connection.request(self.command, path, body, dict(self.headers.items()))
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            for one in ref.get("filters", []):
                told |= {each["name"]: each["value"] for each in one["responseHeaderModifier"]["set"]}
            content = response.read()
        except OSError as error:
            return self._answer(503, {}, str(error).encode())
        finally:
            connection.close()
        kept = {name: told[name] for name in told if name.startswith("x-llmops") or name == "content-type"}
        return self._answer(response.status, kept, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
