"""A Gateway of the Gateway API, led by one HTTPRoute for each model and environment.

Any process may change the routes at any time, so every write says which version it was made from: what somebody else
changed meanwhile is read again and `change` is asked again. A route that did not exist has no version to be compared,
so after it was made `change` is asked once more, and what it no longer wants is taken away: a retirement is written
down before it looks for routes, therefore one of the two sees the other.

A table of several routes is put in force one route after the other. Clients that are under way when a deployment loses
its share are answered: its pods live on until their proxies have nothing left (serving_manifest.drain_seconds).

That a controller accepted a route is read from its status. That proxies follow it is asked of the gateway itself:
`/models/<name>/route` redirects to the version of the rules (route_manifest.py). One address may stand for several
proxies, so a version is believed after several answers over as many connections.
"""

import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any

from llmops_core import route_manifest as manifests
from llmops_core.errors import IntegrityError, TransientError
from llmops_core.job_outcomes import condition_of
from llmops_core.routing import Deployment, Environment, Route, RouteTable
from llmops_core.serving_settings import ClusterServingPlace
from resources.cluster.kubernetes_api import HTTP_ROUTES, AlreadyExists, KubernetesApi, Manifest, refuse_foreign
from resources.traffic import envoy_config
from resources.traffic.traffic import Gateway

ATTEMPTS = 50
RULED_LIMIT_SECONDS = 60.0
ANSWERS = 3
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 1.0
CONDITIONS = ("Accepted", "ResolvedRefs")

Key = tuple[str, Environment]


class HttpRouteGateway(Gateway):
    def __init__(
        self, place: ClusterServingPlace, api: KubernetesApi, limit_seconds: float = RULED_LIMIT_SECONDS
    ) -> None:
        self._place, self._api, self._limit = place, api, limit_seconds

    @property
    def url(self) -> str:
        return self._place.gateway.url.rstrip("/")

    def start(self, running: Iterable[Deployment] = ()) -> None:
        """The cluster keeps routes in force; only addresses may have changed, with another platform's names."""
        known = list(running)
        self.revise(lambda table: table.with_addresses(known))

    def current(self) -> RouteTable:
        """Raises IntegrityError for a route that somebody else changed so that it says none."""
        return RouteTable(routes=tuple(manifests.route_of(each) for _, each in sorted(self._read().items())))

    def revise(self, change: Callable[[RouteTable], RouteTable]) -> RouteTable:
        for attempt in range(ATTEMPTS):
            found = self._read()
            before = _readable(found)
            table = change(before)
            envoy_config.clusters(table)  # refuses one name for two servers
            written = self._written(found, before, table, change)
            if written is not None:
                deadline = time.monotonic() + self._limit
                try:
                    for key in written:
                        self._until_ruled(*key, deadline)
                except IntegrityError:
                    self._put_back(found, written)
                    raise
                return table
            time.sleep(FIRST_PAUSE_SECONDS * min(attempt, 10))
        raise TransientError("the routes are changed faster than they can be read: try again")

    def confirm(self, model: str, environment: Environment) -> None:
        self._until_ruled(model, environment, time.monotonic() + self._limit)

    def _written(
        self,
        found: Mapping[str, Manifest],
        before: RouteTable,
        table: RouteTable,
        change: Callable[[RouteTable], RouteTable],
    ) -> list[Key] | None:
        """The routes that were changed; None where somebody else was faster, in one of them at least."""
        keys: list[Key] = [(route.model, route.environment) for route in (*before.routes, *table.routes)]
        written: list[Key] = []
        for key in dict.fromkeys(keys):
            wanted = table.route(*key)
            if wanted == before.route(*key):
                continue
            if not self._write(found.get(manifests.route_name(*key)), wanted, change):
                return None
            written.append(key)
        return written

    def _write(self, found: Manifest | None, wanted: Route | None, change: Callable[[RouteTable], RouteTable]) -> bool:
        if found is not None and wanted is None:
            metadata = found["metadata"]
            return self._api.delete(
                HTTP_ROUTES, metadata["name"], metadata["uid"], metadata["resourceVersion"], propagation="Background"
            )
        if wanted is None:
            return True
        manifest = manifests.http_route(wanted, self._place.gateway, self._place.namespace)
        if found is not None:
            return self._api.replace(HTTP_ROUTES, found, manifest) is not None
        try:
            made = self._api.create(HTTP_ROUTES, manifest)
        except AlreadyExists:
            if (there := self._api.get(HTTP_ROUTES, manifest["metadata"]["name"])) is not None:
                refuse_foreign(HTTP_ROUTES, there, manifests.MANAGER)
            return False
        except TransientError:
            found = self._api.get(HTTP_ROUTES, manifest["metadata"]["name"])
            if found is None:
                raise
            refuse_foreign(HTTP_ROUTES, found, manifests.MANAGER)
            made = found  # only the answer was lost
        self._second_look(made, wanted, change)
        return True

    def _second_look(self, made: Manifest, wanted: Route, change: Callable[[RouteTable], RouteTable]) -> None:
        """Takes a new route away again when `change` does not want it any more. Raises what `change` raises."""
        try:
            if change(_readable(self._read())).route(wanted.model, wanted.environment) is not None:
                return
        except Exception:
            self._api.delete(HTTP_ROUTES, made["metadata"]["name"], made["metadata"]["uid"], propagation="Background")
            raise
        self._api.delete(HTTP_ROUTES, made["metadata"]["name"], made["metadata"]["uid"], propagation="Background")

    def _put_back(self, before: Mapping[str, Manifest], written: Iterable[Key]) -> None:
        """After a refusal: what ruled before rules on. Whoever changed a route since then has the last word."""
        for name in (manifests.route_name(*key) for key in written):
            now, old = self._api.get(HTTP_ROUTES, name), before.get(name)
            if now is None:
                continue
            if old is None:
                uid, version = now["metadata"]["uid"], now["metadata"]["resourceVersion"]
                self._api.delete(HTTP_ROUTES, name, uid, version, propagation="Background")
            else:
                kept = {field: old["metadata"][field] for field in ("name", "namespace", "labels", "annotations")}
                self._api.replace(HTTP_ROUTES, now, {**old, "metadata": kept})

    def _read(self) -> dict[str, Manifest]:
        """Our routes by the objects' names."""
        found = self._api.every(HTTP_ROUTES, manifests.SELECTOR)
        return {each["metadata"]["name"]: each for each in found if "deletionTimestamp" not in each["metadata"]}

    def _until_ruled(self, model: str, environment: Environment, deadline: float) -> None:
        """Returns when the gateway follows the route; another change of it that came later is as good."""
        name, pause, answers = manifests.route_name(model, environment), FIRST_PAUSE_SECONDS, 0
        path = f"{manifests.base_path(model, environment)}/route"
        while True:
            found = self._api.get(HTTP_ROUTES, name)
            told_of = (found or {}).get("metadata", {}).get("annotations") or {}
            version = str(told_of.get(manifests.VERSION, ""))
            trouble = self._not_accepted(found) if found is not None else ""
            if not trouble:
                told = _told(f"{self.url}{path}")
                answers = answers + 1 if told == (f"{path}/{version}" if version else None) else 0
                if answers == ANSWERS:
                    return
                trouble = f"{self.url}{path} answers with {told or 'no route'}, and not with {version or 'none'}"
            if time.monotonic() > deadline:
                what = "follow" if found is not None else "forget"
                raise TransientError(f"the gateway does not {what} the HTTPRoute {name}: {trouble}")
            if answers == 0:
                time.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    def _not_accepted(self, found: Manifest) -> str:
        """Which condition of our gateway keeps the route from being followed; empty when none does. Raises
        IntegrityError for one that says no to this very version: waiting does not change it."""
        gateway, generation = self._place.gateway.name, found["metadata"]["generation"]
        parents = [
            each
            for each in (found.get("status") or {}).get("parents") or ()
            if each.get("parentRef", {}).get("name") == gateway
        ]
        if not parents:
            return f"no controller of the Gateway {gateway} has looked at it"
        for parent in parents:
            for kind in CONDITIONS:
                good, bad = (condition_of({"status": parent}, kind, status=status) for status in ("True", "False"))
                if bad is not None and bad.get("observedGeneration", generation) >= generation:
                    why = f"{kind} is False: {bad.get('reason', '')}: {bad.get('message', '')}"
                    if kind == "Accepted":
                        raise IntegrityError(f"the gateway refuses the HTTPRoute {found['metadata']['name']}: {why}")
                    return why  # a Service that it does not know yet
                if good is None or good.get("observedGeneration", generation) < generation:
                    return f"{kind} is not said of generation {generation}"
        return ""


def _readable(found: Mapping[str, Manifest]) -> RouteTable:
    """Without what somebody spoilt: it holds up no other model, and is replaced by its own next release."""
    routes: list[Route] = []
    for _, each in sorted(found.items()):
        with suppress(IntegrityError):
            routes.append(manifests.route_of(each))
    return RouteTable(routes=tuple(routes))


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Unfollowed())


def _told(url: str) -> str | None:
    """The path to which the gateway redirects, None where it has no such route; a sentence where it does not answer."""
    try:
        with _direct.open(url, timeout=5) as response:
            return f"status {response.status}"
    except urllib.error.HTTPError as error:
        location = error.headers.get("location", "")
        if error.code == 404:
            return None
        return urllib.parse.urlsplit(location).path if location else f"status {error.code}"
    except (OSError, ValueError, HTTPException) as error:
        return f"nothing ({getattr(error, 'reason', error)})"
