"""What a test orders to happen to pods: they end, print, are evicted, preempted or drained.

`pod` is an object or a name; without a namespace it is the only pod of that name.
"""

from abc import ABC, abstractmethod

from tests.fakes.kubernetes_deletion import Deletion
from tests.fakes.kubernetes_events import Recorder
from tests.fakes.kubernetes_kinds import PODS
from tests.fakes.kubernetes_logs import Logs
from tests.fakes.kubernetes_pod_status import condition_of, with_condition
from tests.fakes.kubernetes_store import Json, key_of
from tests.fakes.kubernetes_verbs import Verbs

KILLED = 137


def names_of(pod: Json) -> list[str]:
    """Of its containers."""
    return [one["name"] for one in pod["spec"]["containers"]]


class PodOrders(ABC):
    def __init__(self, verbs: Verbs, deletion: Deletion, recorder: Recorder, logs: Logs) -> None:
        self._verbs, self._deletion, self._recorder, self._logs = verbs, deletion, recorder, logs
        self._store, self._clock = verbs.store, verbs.store.clock

    @abstractmethod
    def finish(self, pod: Json, name: str, code: int, reason: str = "", message: str = "") -> None:
        """One container ended: the pod is over, or the container is started again."""

    @abstractmethod
    def over(
        self, pod: Json, phase: str, ends: dict[str, tuple[int, str]], reason: str = "", message: str = ""
    ) -> None:
        """The pod is over; `ends` says how containers ended that still ran."""

    @abstractmethod
    def kill(self, uid: str) -> None:
        """Ends the processes of a pod."""

    def end(
        self, pod: Json | str, exit_code: int = 0, reason: str = "", message: str = "", namespace: str = ""
    ) -> None:
        """Ends the containers of a running pod; 137 with reason OOMKilled is a container that took too much memory."""
        with self._store.lock:
            found = self.find(pod, namespace)
            for container in found["spec"]["containers"]:
                self.finish(found, container["name"], exit_code, reason, message)

    def say(self, pod: Json | str, *lines: str, namespace: str = "", container: str = "") -> None:
        """Prints lines in a container of a running pod."""
        found = self.find(pod, namespace)
        name = container or found["spec"]["containers"][0]["name"]
        for line in lines:
            self._logs.say(found["metadata"]["uid"], name, line)

    def evict(self, pod: Json | str, message: str = "", namespace: str = "") -> None:
        """Ends a pod because its node runs out of something: phase Failed, reason Evicted; it is not deleted."""
        message = message or "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. "
        with self._store.lock:
            found = self.find(pod, namespace)
            told = condition_of("DisruptionTarget", "True", self._clock, "TerminationByKubelet", message)
            changed = with_condition(found, told)
            self._recorder.tell(changed, "Evicted", message, "kubelet", warning=True)
            self.kill(found["metadata"]["uid"])
            self.over(changed, "Failed", {name: (KILLED, "Error") for name in names_of(found)}, "Evicted", message)

    def preempt(self, pod: Json | str, namespace: str = "") -> None:
        """Gives the place of a pod to another of higher priority, as the scheduler does."""
        with self._store.lock:
            found = self.find(pod, namespace)
            message = "default-scheduler: preempting to accommodate a higher priority pod"
            told = condition_of("DisruptionTarget", "True", self._clock, "PreemptionByScheduler", message)
            stored = self._store.put(PODS, with_condition(found, told))
            node = found["spec"].get("nodeName", "")
            said = f"Preempted by pod 00000000-0000-0000-0000-000000000000 on node {node}"
            self._recorder.tell_as_scheduler(stored, "Preempted", said, action="Preempting")
            self._deletion.delete(PODS, key_of(found), {"propagationPolicy": "Background"})

    def drain(self, pod: Json | str, namespace: str = "") -> None:
        """Evicts through the API, as `kubectl drain` and spot handlers do."""
        with self._store.lock:
            found = self.find(pod, namespace)
            told = condition_of(
                "DisruptionTarget", "True", self._clock, "EvictionByEvictionAPI", "Eviction API: evicting"
            )
            self._store.put(PODS, with_condition(found, told))
            self._deletion.delete(PODS, key_of(found), {"propagationPolicy": "Background"})

    def find(self, pod: Json | str, namespace: str = "") -> Json:
        if isinstance(pod, dict):
            return self._verbs.read(PODS, key_of(pod))
        found = [one for one in self._store.all(PODS, namespace) if one["metadata"]["name"] == pod]
        if len(found) != 1:
            raise LookupError(f"{len(found)} pods are named {pod}")
        return found[0]
