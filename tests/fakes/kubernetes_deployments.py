"""Deployments and replica sets of the stand-in: a rolling update, one replica set for each template.

A rollout adds pods of the new template up to `maxSurge` over the wanted number and takes old ones away as far as
`maxUnavailable` allows; a template whose pods never get ready therefore leaves the old ones serving.
"""

import copy
import hashlib
import json
import math
from collections.abc import Iterable

from tests.fakes.kubernetes_clock import parsed
from tests.fakes.kubernetes_deletion import Deletion
from tests.fakes.kubernetes_engine import Controller, controlled_by
from tests.fakes.kubernetes_events import Recorder
from tests.fakes.kubernetes_job_state import is_leaving, is_over
from tests.fakes.kubernetes_kinds import DEPLOYMENTS, PODS, REPLICA_SETS
from tests.fakes.kubernetes_names import LETTERS
from tests.fakes.kubernetes_store import Change, Json, Key, key_of
from tests.fakes.kubernetes_verbs import Verbs

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"


def is_ready(pod: Json) -> bool:
    held = pod["status"].get("conditions") or []
    return not is_leaving(pod) and any(one["type"] == "Ready" and one["status"] == "True" for one in held)


def owner_reference(kind: str, owner: Json) -> list[Json]:
    named = {"apiVersion": "apps/v1", "kind": kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    return [named | {"controller": True, "blockOwnerDeletion": True}]


class ReplicaSetController(Controller):
    def __init__(self, verbs: Verbs, deletion: Deletion, recorder: Recorder) -> None:
        self._verbs, self._deletion, self._recorder, self._store = verbs, deletion, recorder, verbs.store

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.kind == REPLICA_SETS:
            return [key_of(change.found)]
        key = controlled_by(change.found, "ReplicaSet") if change.kind == PODS else None
        return [key] if key else []

    def reconcile(self, key: Key) -> float | None:
        found = self._store.get(REPLICA_SETS, key)
        if found is None:
            return None
        if not is_leaving(found):
            self._scale(found)
        self._tell(found)
        return None

    def _pods(self, found: Json) -> list[Json]:
        owned = self._store.owned_by(found["metadata"]["uid"])
        return [pod for kind, pod in owned if kind == PODS and not is_over(pod) and not is_leaving(pod)]

    def _scale(self, found: Json) -> None:
        pods, wanted = self._pods(found), found["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            pod = self._verbs.create(PODS, found["metadata"]["namespace"], self._pod(found))
            said = f"Created pod: {pod['metadata']['name']}"
            self._recorder.tell(found, "SuccessfulCreate", said, "replicaset-controller")
        for pod in sorted(pods, key=is_ready)[: max(len(pods) - wanted, 0)]:
            self._deletion.delete(PODS, key_of(pod), {"propagationPolicy": "Background"})
            said = f"Deleted pod: {pod['metadata']['name']}"
            self._recorder.tell(found, "SuccessfulDelete", said, "replicaset-controller")

    @staticmethod
    def _pod(found: Json) -> Json:
        template = copy.deepcopy(found["spec"]["template"])
        metadata = {"generateName": f"{found['metadata']['name']}-"} | (template.get("metadata") or {})
        metadata["ownerReferences"] = owner_reference("ReplicaSet", found)
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}

    def _tell(self, found: Json) -> None:
        pods, labels = self._pods(found), found["spec"]["template"].get("metadata", {}).get("labels") or {}
        ready = sum(is_ready(pod) for pod in pods)
        status = {"replicas": len(pods), "observedGeneration": found["metadata"]["generation"]}
        counts = {
            "fullyLabeledReplicas": len(pods) if labels else 0,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        status |= {name: count for name, count in counts.items() if count}
        current = self._store.get(REPLICA_SETS, key_of(found))
        if current is not None:
            self._store.put(REPLICA_SETS, {**current, "status": status})


class DeploymentController(Controller):
    def __init__(self, verbs: Verbs, deletion: Deletion, recorder: Recorder) -> None:
        self._verbs, self._deletion, self._recorder, self._store = verbs, deletion, recorder, verbs.store

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.kind == DEPLOYMENTS:
            return [key_of(change.found)]
        key = controlled_by(change.found, "Deployment") if change.kind == REPLICA_SETS else None
        return [key] if key else []

    def reconcile(self, key: Key) -> float | None:
        found = self._store.get(DEPLOYMENTS, key)
        if found is None or is_leaving(found):
            return None
        sets = [one for kind, one in self._store.owned_by(found["metadata"]["uid"]) if kind == REPLICA_SETS]
        newest = next((one for one in sets if self._same(one, found)), None) or self._make(found, sets)
        self._number(found, newest, sets)
        self._roll(found, newest, [one for one in sets if one["metadata"]["uid"] != newest["metadata"]["uid"]])
        return self._tell(found, newest)

    @staticmethod
    def _same(held: Json, found: Json) -> bool:
        template = copy.deepcopy(held["spec"]["template"])
        template["metadata"]["labels"].pop(HASH, None)
        return template == found["spec"]["template"]

    def _make(self, found: Json, sets: list[Json]) -> Json:
        text = json.dumps(found["spec"]["template"], sort_keys=True).encode()
        digest = "".join(LETTERS[byte % len(LETTERS)] for byte in hashlib.sha256(text).digest()[:9])
        template = copy.deepcopy(found["spec"]["template"])
        template["metadata"]["labels"][HASH] = digest
        selector = copy.deepcopy(found["spec"]["selector"])
        selector.setdefault("matchLabels", {})[HASH] = digest
        metadata = {"name": f"{found['metadata']['name']}-{digest}", "labels": template["metadata"]["labels"]}
        metadata |= {"ownerReferences": owner_reference("Deployment", found)}
        made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata}
        made["spec"] = {"replicas": 0, "selector": selector, "template": template}
        return self._verbs.create(REPLICA_SETS, found["metadata"]["namespace"], made)

    def _number(self, found: Json, newest: Json, sets: list[Json]) -> None:
        """The newest template has the highest revision, also when it is an old one that came back."""
        others = [
            int((one["metadata"].get("annotations") or {}).get(REVISION, "0"))
            for one in sets
            if one["metadata"]["uid"] != newest["metadata"]["uid"]
        ]
        revision = max(others, default=0) + 1
        held = (newest["metadata"].get("annotations") or {}).get(REVISION)
        if held is None or int(held) < revision:
            self._annotate(REPLICA_SETS, newest, str(revision))
        told = self._store.get(REPLICA_SETS, key_of(newest))
        if told is not None:
            self._annotate(DEPLOYMENTS, found, told["metadata"]["annotations"][REVISION])

    def _annotate(self, kind: object, found: Json, revision: str) -> None:
        current = copy.deepcopy(self._store.get(kind, key_of(found)))  # type: ignore[arg-type]
        if current is not None:
            current["metadata"].setdefault("annotations", {})[REVISION] = revision
            self._store.put(kind, current)  # type: ignore[arg-type]

    def _roll(self, found: Json, newest: Json, old: list[Json]) -> None:
        wanted = found["spec"]["replicas"]
        strategy = found["spec"]["strategy"]
        if strategy["type"] == "Recreate":
            for one in old:
                self._resize(found, one, 0)
            if not any((one.get("status") or {}).get("replicas") for one in old):
                self._resize(found, newest, wanted)
            return
        surge, unavailable = self._bounds(strategy["rollingUpdate"], wanted)
        total = sum(one["spec"]["replicas"] for one in [newest, *old])
        room = wanted + surge - total
        has = newest["spec"]["replicas"]
        target = wanted if has >= wanted else min(has + max(room, 0), wanted)
        newest = self._resize(found, newest, target)
        ready_new = (newest.get("status") or {}).get("readyReplicas", 0)
        ready = ready_new + sum((one.get("status") or {}).get("readyReplicas", 0) for one in old)
        unready_new = newest["spec"]["replicas"] - ready_new
        total = sum(one["spec"]["replicas"] for one in [newest, *old])
        may_go = total - max(wanted - unavailable, 0) - unready_new
        for one in old:
            unready = one["spec"]["replicas"] - (one.get("status") or {}).get("readyReplicas", 0)
            down = min(one["spec"]["replicas"], max(unready, min(may_go, max(ready - max(wanted - unavailable, 0), 0))))
            if down > 0:
                self._resize(found, one, one["spec"]["replicas"] - down)
                may_go, ready = may_go - down, ready - max(down - unready, 0)

    @staticmethod
    def _bounds(rolling: Json, wanted: int) -> tuple[int, int]:
        def number(value: int | str, up: bool) -> int:
            if isinstance(value, int):
                return value
            share = wanted * int(value.rstrip("%")) / 100
            return math.ceil(share) if up else math.floor(share)

        surge, unavailable = number(rolling["maxSurge"], True), number(rolling["maxUnavailable"], False)
        return (surge, unavailable) if surge or unavailable else (0, 1)

    def _resize(self, found: Json, held: Json, replicas: int) -> Json:
        before = held["spec"]["replicas"]
        if before == replicas:
            return held
        changed = copy.deepcopy(self._verbs.read(REPLICA_SETS, key_of(held)))
        changed["spec"]["replicas"] = replicas
        stored = self._verbs.replace(REPLICA_SETS, key_of(held), changed)
        how = "up" if replicas > before else "down"
        said = f"Scaled {how} replica set {held['metadata']['name']} from {before} to {replicas}"
        self._recorder.tell(found, "ScalingReplicaSet", said, "deployment-controller")
        return stored

    def _tell(self, found: Json, newest: Json) -> float | None:
        current = self._store.get(DEPLOYMENTS, key_of(found))
        if current is None:
            return None
        sets = [one for kind, one in self._store.owned_by(found["metadata"]["uid"]) if kind == REPLICA_SETS]
        newest = next(one for one in sets if one["metadata"]["uid"] == newest["metadata"]["uid"])
        wanted = current["spec"]["replicas"]
        total = sum((one.get("status") or {}).get("replicas", 0) for one in sets)
        ready = sum((one.get("status") or {}).get("readyReplicas", 0) for one in sets)
        updated = (newest.get("status") or {}).get("replicas", 0)
        unavailable = self._bounds(
            current["spec"]["strategy"].get("rollingUpdate") or {"maxSurge": 1, "maxUnavailable": 0}, wanted
        )[1]
        status: Json = {"observedGeneration": current["metadata"]["generation"]}
        counts = {"replicas": total, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready}
        status["terminatingReplicas"] = 0
        counts["unavailableReplicas"] = max(max(total, wanted) - ready, 0)
        status |= {name: count for name, count in counts.items() if count}
        complete = updated == wanted == total == ready
        status["conditions"] = self._conditions(current, newest, ready >= wanted - unavailable, complete)
        self._store.put(DEPLOYMENTS, {**current, "status": status})
        progressing = next(one for one in status["conditions"] if one["type"] == "Progressing")
        if complete or progressing["status"] == "False":
            return None
        left = (
            parsed(progressing["lastUpdateTime"])
            + current["spec"]["progressDeadlineSeconds"]
            - self._store.clock.seconds()
        )
        return max(left, 0.1)

    def _conditions(self, found: Json, newest: Json, available: bool, complete: bool) -> list[Json]:
        now, name = self._store.clock.stamp(), newest["metadata"]["name"]
        old = {one["type"]: one for one in (found.get("status") or {}).get("conditions") or []}
        said = ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        if not available:
            said = ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        told = [_condition("Available", "True" if available else "False", *said, now)]
        going = ("ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
        if complete:
            going = ("NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        value, before = "True", old.get("Progressing")
        same = before is not None and before["message"] == going[1]
        if before and not complete and (same or "exceeded" in before["reason"].lower()) and name in before["message"]:
            since = parsed(before["lastUpdateTime"]) + found["spec"]["progressDeadlineSeconds"]
            if self._store.clock.seconds() >= since or before["status"] == "False":
                value, going = "False", ("ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
        told.append(_condition("Progressing", value, *going, now))
        return [_kept(one, old.get(one["type"])) for one in told]


def _condition(name: str, value: str, reason: str, message: str, now: str) -> Json:
    times = {"lastUpdateTime": now, "lastTransitionTime": now}
    return {"type": name, "status": value, **times, "reason": reason, "message": message}


def _kept(one: Json, before: Json | None) -> Json:
    if before and all(before[name] == one[name] for name in ("status", "reason", "message")):
        return before
    return one | (
        {"lastTransitionTime": before["lastTransitionTime"]} if before and before["status"] == one["status"] else {}
    )
