"""A stand-in for the Kubernetes API, in this process: for request shapes, state machines and faults.

It is not a cluster and is never called one: what it answers was compared with a real API server and controller
manager of version 1.36, but scheduler and kubelet are simulated. The official client talks to it unchanged:

    with KubernetesApi() as api:
        config.load_kube_config(api.kubeconfig)          # a file; or api.client() for an ApiClient
        api.create_namespace("models")
        …create a Job…
        api.settle()                                     # until the controllers have nothing to do now
        pod = api.pod_of("job-name")                     # the newest pod of a job, as a dict
        api.kubelet.say(pod, "a line")
        api.kubelet.end(pod, exit_code=137, reason="OOMKilled")

What it has:
- API: namespaced CRUD of the kinds in `kubernetes_kinds.py`; status, scale, log and eviction subresources; selectors;
  limit/continue; watch with bookmarks, timeouts and 410; merge, strategic and JSON patch; dry run; field validation by
  the schemas of `kubernetes-validate`; 409, 422 and the rest in the real server's words. Not served: apply patches,
  managedFields, protobuf, tables, exec.
- `api.kubelet`: a pod with a node runs until `end`. `api.kubelet.plan = lambda pod: Plan(seconds=0.1, exit_code=1)`
  ends pods by themselves, `COMMAND` runs the container's command as a local process with exactly the pod's environment
  (`api.kubelet.image_environment` is the image's: give it PATH), asks its start and readiness probes, and gives each
  pod an address of its own (127.1xx.…). Also `evict`, `preempt`, `drain`, `missing_images`.
- `api.nodes`: one node of 8 GPUs unless `nodes=False`; `add(name, gpus=…, labels=…, taints=…)`, `lose`, `remove`.
- `api.clock.advance(seconds)`: ends deadlines, back-offs and times to live at once; also what skews the clocks.
- `api.faults`: `refuse(429, verb="list", retry_after_seconds=1)`, `slow`, `lose_answer`, `lose_request`,
  `drop_watches`. `api.forget_history()` makes watches from older versions answer 410, `api.outage()` refuses
  connections inside its block, `api.engine.pause()`/`resume()` holds all controllers.
- `api.requests`: method and path of every request; `api.watches.open`/`opened` count watches.
- `api.get("jobs", name, namespace)`, `api.objects("pods", namespace)`: what is stored, as dicts, without a request.

Not as in a cluster: containers share this machine and see no mounts (see `kubernetes_processes.py`); times of pull and
start are zero; there is no authorisation but the token; events do not expire.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import yaml
from kubernetes import client, config

from tests.fakes import kubernetes_kinds as kinds
from tests.fakes.kubernetes_clock import Clock
from tests.fakes.kubernetes_deletion import Deletion
from tests.fakes.kubernetes_deployments import DeploymentController, ReplicaSetController
from tests.fakes.kubernetes_engine import Engine, controlled_by
from tests.fakes.kubernetes_events import Recorder
from tests.fakes.kubernetes_faults import Faults
from tests.fakes.kubernetes_garbage import GarbageCollector, NamespaceController, TimeToLive
from tests.fakes.kubernetes_http import Server
from tests.fakes.kubernetes_jobs import JobController
from tests.fakes.kubernetes_kinds import Kind
from tests.fakes.kubernetes_kubelet import COMMAND, HOLD, Kubelet, Plan
from tests.fakes.kubernetes_logs import Logs
from tests.fakes.kubernetes_nodes import LostPods, Nodes, Scheduler
from tests.fakes.kubernetes_routes import Routes
from tests.fakes.kubernetes_store import Json, Store
from tests.fakes.kubernetes_verbs import Verbs
from tests.fakes.kubernetes_watch import LogReader, Watches
from tests.fakes.ports import free_port

__all__ = ["COMMAND", "HOLD", "KubernetesApi", "Plan"]

TOKEN = "stand-in"


class KubernetesApi:
    """`custom` are the custom kinds installed, `schemas` what their definitions allow (by kind; without one, anything);
    without `nodes` no pod is scheduled until one is added."""

    def __init__(
        self,
        nodes: bool = True,
        custom: Sequence[Kind] = kinds.CUSTOM,
        schemas: Mapping[str, Json] | None = None,
    ) -> None:
        self.clock = Clock()
        self.store = Store(self.clock)
        self.faults = Faults()
        self.logs = Logs(self.clock)
        self.verbs = Verbs(self.store, dict(schemas or {}))
        self.verbs.meet = self.faults.meet
        self.deletion = Deletion(self.verbs, self.clock)
        recorder = Recorder(self.verbs)
        self.nodes = Nodes(self.verbs, self.deletion, recorder)
        self.kubelet = Kubelet(self.verbs, self.deletion, recorder, self.logs, self.nodes.is_lost)
        self.watches = Watches(self.store, self.faults)
        self._log_reader = LogReader(self.verbs, self.logs, self.faults)
        self._routes = Routes(
            self.verbs, self.deletion, self.watches, self._log_reader, self.faults, self.kubelet.drain
        )
        for kind in (*kinds.BUILT_IN, *custom):
            self._routes.serve(kind)
        self._server = Server(free_port(), TOKEN, self._routes)
        self.engine = self._assembled(recorder)
        self._room = Path(tempfile.mkdtemp(prefix="kubernetes-api-"))
        for name in ("default", "kube-system"):
            self.create_namespace(name)
        if nodes:
            self.nodes.add("node-1", gpus=8, cpu="1000", memory="8Ti", pods=1000)

    def _assembled(self, recorder: Recorder) -> Engine:
        lost = LostPods(self.verbs, self.deletion, recorder)
        controllers = [
            DeploymentController(self.verbs, self.deletion, recorder),
            ReplicaSetController(self.verbs, self.deletion, recorder),
            JobController(self.verbs, self.deletion, recorder),
            Scheduler(self.verbs, recorder),
            lost,
            self.kubelet,
            GarbageCollector(self.verbs, self.deletion),
            NamespaceController(self.deletion, self.verbs, tuple(self._routes.kinds.values())),
            TimeToLive(self.deletion, self.verbs),
        ]
        engine = Engine(self.store, self.clock, controllers)
        self.kubelet.look = lambda key: engine.look(self.kubelet, key)
        self.faults.on_change(engine.wake)
        return engine

    def __enter__(self) -> "KubernetesApi":
        self._server.start()
        self.engine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.stop()
        self.watches.closed = self._log_reader.closed = True
        self.engine.wake()
        self._server.stop()
        self.kubelet.close()
        shutil.rmtree(self._room, ignore_errors=True)
        if error is None:
            for failure in (*self.engine.failures, *self._server.failures):
                raise failure

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        return self._server.requests

    @property
    def kubeconfig(self) -> str:
        """The path of a kubeconfig file, for this process and others."""
        path = self._room / "kubeconfig"
        if not path.exists():
            context = {"cluster": "stand-in", "user": "tests", "namespace": "default"}
            path.write_text(
                yaml.safe_dump(
                    {
                        "apiVersion": "v1",
                        "kind": "Config",
                        "current-context": "stand-in",
                        "clusters": [{"name": "stand-in", "cluster": {"server": self.url}}],
                        "users": [{"name": "tests", "user": {"token": TOKEN}}],
                        "contexts": [{"name": "stand-in", "context": context}],
                    }
                )
            )
        return str(path)

    def client(self) -> client.ApiClient:
        """A client of its own; close it, or use it in a `with`."""
        return config.new_client_from_config(self.kubeconfig)

    def create_namespace(self, name: str) -> Json:
        found = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        return self.verbs.create(kinds.NAMESPACES, "", found)

    def objects(self, plural: str, namespace: str = "") -> list[Json]:
        """Stored objects, in order of their names."""
        return self.store.all(self._kind(plural), namespace)

    def get(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        kind = self._kind(plural)
        return self.store.get(kind, (namespace if kind.namespaced else "", name))

    def put(self, plural: str, found: Json, namespace: str = "default") -> Json:
        """Creates an object without a request."""
        return self.verbs.create(self._kind(plural), namespace, found)

    def pods_of(self, job: str, namespace: str = "default") -> list[Json]:
        """The pods of a job, oldest first."""
        found = [pod for pod in self.objects("pods", namespace) if controlled_by(pod, "Job") == (namespace, job)]
        return sorted(found, key=lambda pod: self.store.first_version(pod["metadata"]["uid"]))

    def pod_of(self, job: str, namespace: str = "default") -> Json:
        return self.pods_of(job, namespace)[-1]

    def events(self, namespace: str = "default", about: str = "") -> list[Json]:
        found = self.objects("events", namespace)
        return [event for event in found if about in ("", event["involvedObject"]["name"])]

    def settle(self, timeout_seconds: float = 10.0) -> None:
        """Waits until the controllers have nothing to do now. Raises what broke in one."""
        self.engine.settle(timeout_seconds)

    def forget_history(self) -> None:
        """Watches and pages from before answer 410; those that are open go on."""
        self.store.compact()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Connections end and new ones are refused inside the block; controllers and pods go on."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()

    def _kind(self, plural: str) -> Kind:
        return next(kind for kind in self._routes.kinds.values() if kind.plural == plural)
