"""Event objects, in the two shapes a cluster has: of the older recorder (job controller, kubelet), with first and last
time and a count that grows, and of the newer one (scheduler), where those are empty and `eventTime` tells."""

from typing import Any

from tests.fakes.kubernetes_errors import ApiError
from tests.fakes.kubernetes_kinds import EVENTS
from tests.fakes.kubernetes_store import Json, Key
from tests.fakes.kubernetes_verbs import Verbs


class Recorder:
    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._made: dict[tuple[Any, ...], Key] = {}

    def tell(self, about: Json, reason: str, message: str, source: str, warning: bool = False, field: str = "") -> None:
        """The same again within the life of an event only counts up."""
        involved = self._reference(about)
        if field:
            involved["fieldPath"] = field
        again = (involved["uid"], reason, message, source)
        now = self._verbs.store.clock.stamp()
        if again in self._made and (old := self._verbs.store.get(EVENTS, self._made[again])):
            self._verbs.store.put(EVENTS, {**old, "count": old["count"] + 1, "lastTimestamp": now})
            return
        event = self._event(about, involved, reason, message, warning)
        event |= {
            "source": {"component": source},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "eventTime": None,
        }
        if source == "kubelet":
            event["source"]["host"] = about["spec"].get("nodeName", "")
        event |= {"reportingComponent": source, "reportingInstance": event["source"].get("host", "")}
        self._made[again] = self._store(event)

    def tell_as_scheduler(
        self, about: Json, reason: str, message: str, warning: bool = False, action: str = "Scheduling"
    ) -> None:
        event = self._event(about, self._reference(about), reason, message, warning)
        fine = self._verbs.store.clock.fine_stamp()[:-4] + "Z"
        event |= {"source": {}, "firstTimestamp": None, "lastTimestamp": None, "eventTime": fine, "action": action}
        event |= {"reportingComponent": "default-scheduler", "reportingInstance": "default-scheduler-stand-in"}
        self._store(event)

    def _store(self, event: Json) -> Key:
        try:
            stored = self._verbs.create(EVENTS, event["metadata"]["namespace"], event)
        except ApiError:  # the namespace is going: as in a cluster, the event is lost
            return "", ""
        return stored["metadata"]["namespace"], stored["metadata"]["name"]

    @staticmethod
    def _reference(about: Json) -> Json:
        metadata = about["metadata"]
        named = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in metadata}
        return {"kind": about["kind"], "apiVersion": about["apiVersion"]} | named

    def _event(self, about: Json, involved: Json, reason: str, message: str, warning: bool) -> Json:
        stamp = f"{int(self._verbs.store.clock.seconds() * 1e9):x}"
        namespace = about["metadata"].get("namespace", "default")
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": f"{about['metadata']['name']}.{stamp}", "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
        }
