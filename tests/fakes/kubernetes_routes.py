"""Which request is which operation: paths, verbs, subresources and query parameters of the Kubernetes API."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.fakes.kubernetes_deletion import Deletion
from tests.fakes.kubernetes_errors import bad_request, method_not_allowed, no_such_resource
from tests.fakes.kubernetes_faults import Faults
from tests.fakes.kubernetes_kinds import PODS, Kind
from tests.fakes.kubernetes_store import Json, key_of
from tests.fakes.kubernetes_validation import warnings_of
from tests.fakes.kubernetes_verbs import Verbs
from tests.fakes.kubernetes_watch import LogReader, Watches, is_true

VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64", "goVersion": "go1.26.3"}


class NoPage(Exception):
    """A path that leads nowhere, or to a group that is not installed: a plain 404, no Status."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    raw: bytes
    content_type: str

    def body(self) -> Any:
        if not self.raw:
            return {}
        try:
            return yaml.safe_load(self.raw) if "yaml" in self.content_type else json.loads(self.raw)
        except (ValueError, yaml.YAMLError) as error:
            why = f"couldn't get version/kind; json parse error: {error} ({self.raw.decode(errors='replace')})"
            raise bad_request(f"the object provided is unrecognized: {why}") from error

    @property
    def dry_run(self) -> bool:
        return self.query.get("dryRun") == "All"


@dataclass(frozen=True)
class Answer:
    """A body as JSON or, as an iterator, in chunks; `breaks` tells at the end whether to skip the last chunk."""

    body: Any
    code: int = 200
    warnings: Sequence[str] = ()
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    breaks: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class _Place:
    """What a path names."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Routes:
    """`kinds` are those that the cluster serves; others are 404, as where a definition is not installed."""

    def __init__(
        self,
        verbs: Verbs,
        deletion: Deletion,
        watches: Watches,
        logs: LogReader,
        faults: Faults,
        drain: Callable[[Json], None],
    ) -> None:
        self._verbs, self._deletion, self._watches, self._logs = verbs, deletion, watches, logs
        self._faults, self._drain = faults, drain
        self.kinds: dict[tuple[str, str, str], Kind] = {}

    def serve(self, kind: Kind) -> None:
        self.kinds[kind.group, kind.version, kind.plural] = kind

    def answer(self, request: Request) -> Answer:
        parts = [part for part in request.path.split("/") if part]
        if parts and parts[0] in ("version", "healthz", "readyz", "livez"):
            return Answer(VERSION if parts[0] == "version" else b"ok")
        if request.path.rstrip("/").endswith("/selfsubjectaccessreviews"):
            return self._review(request)
        if found := self._discovered(parts):
            return Answer(found)
        place = self._place(parts)
        verb = self._verb(request, place)
        self._faults.meet(verb, place.kind, place.name)
        answer = self._operate(verb, request, place)
        self._faults.meet(verb, place.kind, place.name, after=True)
        return answer

    def _place(self, parts: list[str]) -> _Place:
        if parts[:1] == ["api"]:
            group, version, rest = "", *parts[1:2], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise NoPage
        if not any((kind.group, kind.version) == (group, version) for kind in self.kinds.values()):
            raise NoPage
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self.kinds.get((group, version, rest[0] if rest else ""))
        if kind is None:
            raise no_such_resource()
        name, subresource = (rest[1:2] or [""])[0], (rest[2:3] or [""])[0]
        return _Place(kind, namespace, name, subresource)

    @staticmethod
    def _verb(request: Request, place: _Place) -> str:
        if request.method == "GET":
            if place.subresource == "log":
                return "log"
            if is_true(request.query.get("watch")):
                return "watch"
            return "get" if place.name else "list"
        if request.method == "DELETE":
            return "delete" if place.name else "deletecollection"
        return {"POST": "create", "PUT": "update", "PATCH": "patch"}[request.method]

    def _operate(self, verb: str, request: Request, place: _Place) -> Answer:
        if verb == "watch":
            generation = self._faults.watch_generation
            lines = self._watches.lines(place.kind, place.namespace, _named(request.query, place))
            return Answer(lines, breaks=lambda: self._faults.watch_generation != generation)
        if verb == "log" and place.kind == PODS:
            lines = self._logs.read(place.namespace, place.name, request.query)
            return Answer(lines, content_type="text/plain")
        if place.subresource == "eviction" and verb == "create":
            self._drain(self._verbs.read(PODS, (place.namespace, place.name)))
            return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)
        if place.subresource == "scale":
            return self._scale(verb, request, place)
        if place.subresource not in ("", "status") or (place.subresource and not place.kind.has_status):
            raise no_such_resource()
        operation: dict[str, Callable[[Request, _Place], Answer]] = {
            "list": self._list,
            "get": lambda request, place: Answer(self._verbs.read(place.kind, (place.namespace, place.name))),
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_all,
        }
        return operation[verb](request, place)

    def _list(self, request: Request, place: _Place) -> Answer:
        return Answer(self._verbs.select(place.kind, place.namespace, request.query))

    def _create(self, request: Request, place: _Place) -> Answer:
        if place.name:
            raise method_not_allowed()
        found, told = self._verbs.decoded(place.kind, request.body(), request.query.get("fieldValidation", ""))
        made = self._verbs.create(place.kind, place.namespace, found, request.dry_run)
        return Answer(made, 201, told + warnings_of(place.kind, made))

    def _update(self, request: Request, place: _Place) -> Answer:
        found, told = self._verbs.decoded(place.kind, request.body(), request.query.get("fieldValidation", ""))
        status = place.subresource == "status"
        return Answer(
            self._verbs.replace(place.kind, (place.namespace, place.name), found, status, request.dry_run), 200, told
        )

    def _patch(self, request: Request, place: _Place) -> Answer:
        found, told = self._verbs.patch(
            place.kind,
            (place.namespace, place.name),
            request.body(),
            request.content_type,
            place.subresource == "status",
            request.query.get("fieldValidation", ""),
            request.dry_run,
        )
        return Answer(found, 200, told)

    def _scale(self, verb: str, request: Request, place: _Place) -> Answer:
        key = (place.namespace, place.name)
        found = self._verbs.read(place.kind, key)
        if verb != "get":
            replicas = request.body().get("spec", {}).get("replicas", 0)
            change = {"spec": {"replicas": replicas}}
            found, _ = self._verbs.patch(place.kind, key, change, "application/merge-patch+json")
        metadata = {
            name: found["metadata"][name]
            for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        }
        labels = (found["spec"].get("selector") or {}).get("matchLabels") or {}
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        status = {"replicas": (found.get("status") or {}).get("replicas", 0), "selector": selector}
        spec = {"replicas": found["spec"]["replicas"]}
        return Answer(
            {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}
        )

    @staticmethod
    def _options(request: Request) -> Json:
        body = request.body()
        options = body if isinstance(body, dict) else {}
        for name in ("propagationPolicy", "gracePeriodSeconds"):
            if name in request.query:
                options[name] = request.query[name]
        if options.get("gracePeriodSeconds") is not None:
            options["gracePeriodSeconds"] = int(options["gracePeriodSeconds"])
        return options | ({"dryRun": ["All"]} if request.dry_run else {})

    def _delete(self, request: Request, place: _Place) -> Answer:
        found, told = self._deletion.delete(place.kind, (place.namespace, place.name), self._options(request))
        return Answer(found, 200, told)

    def _delete_all(self, request: Request, place: _Place) -> Answer:
        query = {name: text for name, text in request.query.items() if name not in ("limit", "continue")}
        found = self._verbs.select(place.kind, place.namespace, query)
        for item in found["items"]:
            self._deletion.delete(place.kind, key_of(item), self._options(request))
        return Answer(found)

    def _review(self, request: Request) -> Answer:
        body = request.body()
        asked = (body.get("spec") or {}).get("resourceAttributes") or {}
        kind = next(
            (
                one
                for one in self.kinds.values()
                if (one.group, one.plural) == (asked.get("group", ""), asked.get("resource"))
            ),
            None,
        )
        allowed = kind is None or not self._faults.forbids(asked.get("verb", ""), kind)
        return Answer(body | {"status": {"allowed": allowed}}, 201)

    def _discovered(self, parts: list[str]) -> Json | None:
        """The lists that dynamic clients and `doctor` read: groups, and the kinds of a group."""
        served = [kind for kind in self.kinds.values()]
        if parts == ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        if parts == ["apis"]:
            named = sorted({(kind.group, kind.version) for kind in served if kind.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*one) for one in named]}
        wanted = ("", "v1") if parts == ["api", "v1"] else tuple(parts[1:]) if parts[:1] == ["apis"] else ()
        if len(wanted) != 2:
            return None
        found = [_resource(kind) for kind in served if (kind.group, kind.version) == wanted]
        if not found:
            raise NoPage
        listed = "/".join(part for part in wanted if part)
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": listed, "resources": found}


def _named(query: dict[str, str], place: _Place) -> dict[str, str]:
    if not place.name:
        return query
    return query | {"fieldSelector": f"metadata.name={place.name}"}


def _group(name: str, version: str) -> Json:
    one = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [one], "preferredVersion": one}


def _resource(kind: Kind) -> Json:
    verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    named = {"name": kind.plural, "singularName": kind.kind.lower(), "namespaced": kind.namespaced, "kind": kind.kind}
    return named | {"verbs": verbs}
