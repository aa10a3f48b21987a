"""Nodes of the stand-in and the scheduler that places pods on them, by resources, selectors and taints.

A pod that fits nowhere says why, in the scheduler's words, in its condition `PodScheduled` and in an event, and is
tried again when a node or another pod changes. `lose` is a node whose kubelet no longer answers: its pods are not
ready, and after their toleration (300 s) they are marked for deletion but stay, because nobody can stop them; `remove`
is a node that is gone (a spot instance): its pods fail and go.
"""

import copy
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from tests.fakes.kubernetes_clock import Clock
from tests.fakes.kubernetes_deletion import Deletion
from tests.fakes.kubernetes_engine import Controller
from tests.fakes.kubernetes_events import Recorder
from tests.fakes.kubernetes_job_state import is_leaving, is_over
from tests.fakes.kubernetes_kinds import NODES, PODS
from tests.fakes.kubernetes_pod_status import condition_of, with_condition
from tests.fakes.kubernetes_pod_validation import quantity
from tests.fakes.kubernetes_store import Change, Json, Key, key_of
from tests.fakes.kubernetes_verbs import Verbs

UNREACHABLE = "node.kubernetes.io/unreachable"


class Nodes:
    """What a test does to nodes."""

    def __init__(self, verbs: Verbs, deletion: Deletion, recorder: Recorder) -> None:
        self._verbs, self._deletion, self._recorder, self._store = verbs, deletion, recorder, verbs.store

    def add(
        self,
        name: str,
        gpus: int = 0,
        cpu: str = "64",
        memory: str = "512Gi",
        labels: dict[str, str] | None = None,
        taints: Iterable[Json] = (),
        pods: int = 110,
    ) -> Json:
        """`taints` as a node has them: {"key": …, "value": …, "effect": "NoSchedule"}."""
        capacity = {"cpu": cpu, "memory": memory, "ephemeral-storage": "1Ti", "pods": str(pods)}
        if gpus:
            capacity["nvidia.com/gpu"] = str(gpus)
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name} | (labels or {})}
        node: Json = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}}
        if taints:
            node["spec"]["taints"] = list(taints)
        with self._store.lock:
            stored = copy.deepcopy(self._verbs.create(NODES, "", node))
            stored["status"] = {"capacity": capacity, "allocatable": dict(capacity)}
            stored["status"]["addresses"] = [{"type": "InternalIP", "address": "127.0.0.1"}]
            ready = {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
            }
            stored["status"]["conditions"] = [ready | {"lastTransitionTime": self._store.clock.stamp()}]
            return self._store.put(NODES, stored)

    def lose(self, name: str) -> None:
        """The kubelet stops answering: what runs there may go on or not, nobody knows."""
        with self._store.lock:
            node = copy.deepcopy(self._verbs.read(NODES, ("", name)))
            now = self._store.clock.stamp()
            unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": now}
            node["status"]["conditions"] = [unknown | {"message": "Kubelet stopped posting node status."}]
            taints = [
                {"key": UNREACHABLE, "effect": effect, "timeAdded": now} for effect in ("NoSchedule", "NoExecute")
            ]
            node["spec"]["taints"] = [*node["spec"].get("taints", []), *taints]
            self._store.put(NODES, node)
            for pod in self.pods_on(name):
                self._recorder.tell(pod, "NodeNotReady", "Node is not ready", "node-controller", warning=True)
                self._store.put(PODS, with_condition(pod, condition_of("Ready", "False", self._store.clock)))

    def remove(self, name: str) -> None:
        with self._store.lock:
            self._store.remove(NODES, ("", name))

    def pods_on(self, name: str) -> list[Json]:
        return [pod for pod in self._store.each(PODS) if pod["spec"].get("nodeName") == name and not is_over(pod)]

    def is_lost(self, name: str) -> bool:
        node = self._store.get(NODES, ("", name))
        return node is None or any(taint["key"] == UNREACHABLE for taint in node["spec"].get("taints") or [])


class LostPods(Controller):
    """Taint eviction and collection of pods whose node is gone."""

    def __init__(self, verbs: Verbs, deletion: Deletion, recorder: Recorder) -> None:
        self._verbs, self._deletion, self._recorder, self._store = verbs, deletion, recorder, verbs.store
        self._since: dict[str, float] = {}

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.kind == PODS:
            return [key_of(change.found)] if change.found["spec"].get("nodeName") else []
        if change.kind == NODES:
            name = change.found["metadata"]["name"]
            return [key_of(pod) for pod in self._store.each(PODS) if pod["spec"].get("nodeName") == name]
        return []

    def reconcile(self, key: Key) -> float | None:
        pod = self._store.get(PODS, key)
        if pod is None or (is_over(pod) and not is_leaving(pod)):
            return None
        node = self._store.get(NODES, ("", pod["spec"]["nodeName"]))
        if node is None:
            self._collect(pod)
            return None
        if not any(taint["key"] == UNREACHABLE for taint in node["spec"].get("taints") or []):
            self._since.pop(pod["metadata"]["uid"], None)
            return None
        return None if is_leaving(pod) else self._evict(pod)

    def _collect(self, pod: Json) -> None:
        clock = self._store.clock
        disrupted = condition_of("DisruptionTarget", "True", clock, "DeletionByPodGC", "PodGC: node no longer exists")
        changed = with_condition(pod, disrupted)
        if not is_over(pod):
            changed["status"]["phase"] = "Failed"
        self._store.put(PODS, changed)
        self._deletion.delete(PODS, key_of(pod), {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})

    def _evict(self, pod: Json) -> float | None:
        now = self._store.clock.seconds()
        since = self._since.setdefault(pod["metadata"]["uid"], now)
        tolerated = [one for one in pod["spec"].get("tolerations") or [] if one.get("key") in (UNREACHABLE, None, "")]
        if any("tolerationSeconds" not in one for one in tolerated):
            return None
        left = since + min((one["tolerationSeconds"] for one in tolerated), default=0) - now
        if left > 0:
            return left
        message = "Taint manager: deleting due to NoExecute taint"
        disrupted = condition_of("DisruptionTarget", "True", self._store.clock, "DeletionByTaintManager", message)
        self._store.put(PODS, with_condition(pod, disrupted))
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._recorder.tell(
            pod, "TaintManagerEviction", f"Marking for deletion Pod {name}", "taint-eviction-controller"
        )
        self._deletion.delete(PODS, key_of(pod), {"propagationPolicy": "Background"})
        return None


class Scheduler(Controller):
    def __init__(self, verbs: Verbs, recorder: Recorder) -> None:
        self._store, self._recorder = verbs.store, recorder
        self._waiting: set[Key] = set()

    def concerned(self, change: Change) -> Iterable[Key]:
        keys = {key_of(change.found)} if change.kind == PODS else set[Key]()
        ended = change.kind == PODS and (change.type == "DELETED" or is_over(change.found))
        if ended or change.kind == NODES:
            keys |= self._waiting
        return keys

    def reconcile(self, key: Key) -> float | None:
        pod = self._store.get(PODS, key)
        self._waiting.discard(key)
        if pod is None or pod["spec"].get("nodeName") or is_leaving(pod) or is_over(pod):
            return None
        if pod["spec"].get("schedulingGates"):
            return None
        whys: Counter[str] = Counter()
        for node in self._store.all(NODES):
            reasons = self._against(pod, node)
            if not reasons:
                self._bind(pod, node["metadata"]["name"])
                return None
            whys.update(reasons)
        self._waiting.add(key)
        self._refuse(pod, whys)
        return None

    def _against(self, pod: Json, node: Json) -> list[str]:
        """Why the pod cannot run there; the first kind of reason ends the search, as in the scheduler."""
        spec = pod["spec"]
        if node["spec"].get("unschedulable"):
            return ["node(s) were unschedulable"]
        if not all(self._tolerates(spec, taint) for taint in node["spec"].get("taints") or []):
            return ["node(s) had untolerated taint(s)"]
        labels = node["metadata"].get("labels") or {}
        if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
            return ["node(s) didn't match Pod's node affinity/selector"]
        return self._insufficient(pod, node)

    @staticmethod
    def _tolerates(spec: Json, taint: Json) -> bool:
        if taint["effect"] == "PreferNoSchedule":
            return True
        return any(
            one.get("effect") in (None, "", taint["effect"])
            and (not one.get("key") or one["key"] == taint["key"])
            and (one.get("operator", "Equal") == "Exists" or one.get("value", "") == taint.get("value", ""))
            for one in spec.get("tolerations") or []
        )

    def _insufficient(self, pod: Json, node: Json) -> list[str]:
        held = [
            other
            for other in self._store.each(PODS)
            if other["spec"].get("nodeName") == node["metadata"]["name"] and not is_over(other)
        ]
        free = {name: quantity(value) for name, value in node["status"]["allocatable"].items()}
        if len(held) + 1 > free.get("pods", Decimal(110)):
            return ["Too many pods"]
        used: Counter[str] = Counter()
        for other in held:
            used.update(requests_of(other))  # type: ignore[arg-type]
        wanted = requests_of(pod)
        return [
            f"Insufficient {name}" for name, value in wanted.items() if used[name] + value > free.get(name, Decimal(0))
        ]

    def _preemption(self, pod: Json) -> str:
        """Whether taking the place of others could help: where the node, empty, has enough."""
        nodes = self._store.all(NODES)
        helped = 0
        for node in nodes:
            allocatable = {name: quantity(value) for name, value in node["status"]["allocatable"].items()}
            fits = all(value <= allocatable.get(name, Decimal(0)) for name, value in requests_of(pod).items())
            helped += fits and self._against(pod, node)[0].startswith(("Insufficient", "Too many"))
        said = []
        if helped:
            said.append(f"{helped} No preemption victims found for incoming pod")
        if len(nodes) - helped:
            said.append(f"{len(nodes) - helped} Preemption is not helpful for scheduling")
        return ", ".join(said)

    def _bind(self, pod: Json, node: str) -> None:
        changed = with_condition(pod, _scheduled("True", self._store.clock))
        changed["spec"] = {**pod["spec"], "nodeName": node}
        stored = self._store.put(PODS, changed)
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._recorder.tell_as_scheduler(
            stored, "Scheduled", f"Successfully assigned {name} to {node}", action="Binding"
        )

    def _refuse(self, pod: Json, whys: Counter[str]) -> None:
        count = len(self._store.all(NODES))
        reasons = ", ".join(sorted(f"{number} {why}" for why, number in whys.items()))
        message = f"0/{count} nodes are available: {reasons}." if count else "no nodes available to schedule pods"
        if count:
            message += (
                f" no new claims to deallocate, preemption: 0/{count} nodes are available: {self._preemption(pod)}."
            )
        told = _scheduled("False", self._store.clock, "Unschedulable", message)
        old = next((one for one in pod["status"].get("conditions") or [] if one["type"] == "PodScheduled"), None)
        if old is None or old.get("message") != message:
            stored = self._store.put(PODS, with_condition(pod, told))
            self._recorder.tell_as_scheduler(stored, "FailedScheduling", message, warning=True)


def _scheduled(value: str, clock: Clock, reason: str = "", message: str = "") -> Json:
    told = condition_of("PodScheduled", value, clock, reason, message)
    if value == "True":
        del told["observedGeneration"]
    return told


def requests_of(pod: Json) -> dict[str, Decimal]:
    total: Counter[str] = Counter()
    for container in pod["spec"]["containers"]:
        for name, value in (container.get("resources", {}).get("requests") or {}).items():
            total[name] += quantity(value)  # type: ignore[assignment]
    return dict(total)  # type: ignore[arg-type]
