"""What ends objects in the stand-in: the garbage collector (owners), namespaces, the time to live of finished jobs."""

import copy
from collections.abc import Iterable

from tests.fakes.kubernetes_clock import parsed
from tests.fakes.kubernetes_deletion import FOREGROUND, ORPHAN, Deletion
from tests.fakes.kubernetes_engine import Controller
from tests.fakes.kubernetes_job_state import condition
from tests.fakes.kubernetes_kinds import EVENTS, JOBS, NAMESPACES, SERVICE_ACCOUNTS, Kind
from tests.fakes.kubernetes_store import Change, Json, Key, key_of, owners_of
from tests.fakes.kubernetes_verbs import Verbs

ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount"}


class GarbageCollector(Controller):
    """Keys are uids: of objects that go and of those that were owned by what is gone."""

    def __init__(self, verbs: Verbs, deletion: Deletion) -> None:
        self._verbs, self._deletion, self._store = verbs, deletion, verbs.store

    def concerned(self, change: Change) -> Iterable[Key]:
        metadata = change.found["metadata"]
        uids = [owner["uid"] for owner in owners_of(change.found)]
        if change.type == "DELETED":
            uids += [found["metadata"]["uid"] for _, found in self._store.owned_by(metadata["uid"])]
        elif "deletionTimestamp" in metadata or (change.type == "ADDED" and uids):
            uids.append(metadata["uid"])
        return [("", uid) for uid in uids]

    def reconcile(self, key: Key) -> float | None:
        entry = self._store.with_uid(key[1])
        if entry is None:
            return None
        kind, found = entry
        finalizers = found["metadata"].get("finalizers") or []
        if "deletionTimestamp" in found["metadata"]:
            if FOREGROUND in finalizers:
                self._delete_dependents(kind, found)
            elif ORPHAN in finalizers:
                self._orphan_dependents(kind, found)
        elif owners_of(found):
            self._judge(kind, found)
        return None

    def _judge(self, kind: Kind, found: Json) -> None:
        """Deletes what has owners, all of them gone; owners that go in the foreground take it along."""
        alive = [entry[1] for owner in owners_of(found) if (entry := self._store.with_uid(owner["uid"]))]
        going = [owner for owner in alive if FOREGROUND in (owner["metadata"].get("finalizers") or [])]
        if not alive or len(going) == len(alive):
            self._deletion.delete(kind, key_of(found), {"propagationPolicy": "Background"})

    def _delete_dependents(self, kind: Kind, owner: Json) -> None:
        left = self._store.owned_by(owner["metadata"]["uid"])
        for inner, found in left:
            if "deletionTimestamp" not in found["metadata"]:
                policy = "Foreground" if self._store.owned_by(found["metadata"]["uid"]) else "Background"
                self._deletion.delete(inner, key_of(found), {"propagationPolicy": policy})
        blocking = [
            found
            for _, found in self._store.owned_by(owner["metadata"]["uid"])
            for held in owners_of(found)
            if held["uid"] == owner["metadata"]["uid"] and held.get("blockOwnerDeletion")
        ]
        if not blocking:
            self._without(kind, owner, FOREGROUND)

    def _orphan_dependents(self, kind: Kind, owner: Json) -> None:
        for inner, found in self._store.owned_by(owner["metadata"]["uid"]):
            changed = copy.deepcopy(found)
            kept = [held for held in owners_of(found) if held["uid"] != owner["metadata"]["uid"]]
            changed["metadata"].pop("ownerReferences")
            if kept:
                changed["metadata"]["ownerReferences"] = kept
            self._verbs.replace(inner, key_of(found), changed)
        self._without(kind, owner, ORPHAN)

    def _without(self, kind: Kind, found: Json, finalizer: str) -> None:
        changed = copy.deepcopy(self._verbs.read(kind, key_of(found)))
        changed["metadata"]["finalizers"] = [name for name in changed["metadata"]["finalizers"] if name != finalizer]
        self._verbs.replace(kind, key_of(found), changed)


class NamespaceController(Controller):
    def __init__(self, deletion: Deletion, verbs: Verbs, kinds: tuple[Kind, ...]) -> None:
        self._deletion, self._verbs, self._store = deletion, verbs, verbs.store
        self._kinds = [kind for kind in kinds if kind.namespaced]

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.kind == NAMESPACES:
            return [key_of(change.found)]
        if change.type == "DELETED" and change.kind.namespaced:
            return [("", change.found["metadata"]["namespace"])]
        return []

    def reconcile(self, key: Key) -> float | None:
        home = self._store.get(NAMESPACES, key)
        if home is None:
            return None
        if "deletionTimestamp" not in home["metadata"]:
            self._furnish(key[1])
            return None
        left = 0
        for kind in sorted(self._kinds, key=lambda kind: kind == EVENTS):
            for found in self._store.all(kind, key[1]):
                if "deletionTimestamp" not in found["metadata"]:
                    self._deletion.delete(kind, key_of(found), {"propagationPolicy": "Background"})
                left += self._store.get(kind, key_of(found)) is not None
        if not left:
            self._store.remove(NAMESPACES, key)
        return None

    def _furnish(self, name: str) -> None:
        """Every namespace has an account for pods that name none."""
        if self._store.get(SERVICE_ACCOUNTS, (name, "default")) is None:
            self._verbs.create(SERVICE_ACCOUNTS, name, {**ACCOUNT, "metadata": {"name": "default"}})


class TimeToLive(Controller):
    """Deletes finished jobs `ttlSecondsAfterFinished` after their end."""

    def __init__(self, deletion: Deletion, verbs: Verbs) -> None:
        self._deletion, self._store = deletion, verbs.store

    def concerned(self, change: Change) -> Iterable[Key]:
        return [key_of(change.found)] if change.kind == JOBS else []

    def reconcile(self, key: Key) -> float | None:
        job = self._store.get(JOBS, key)
        if job is None or "ttlSecondsAfterFinished" not in job["spec"] or "deletionTimestamp" in job["metadata"]:
            return None
        ended = condition(job, "Complete") or condition(job, "Failed")
        if ended is None:
            return None
        left = (
            parsed(ended["lastTransitionTime"]) + job["spec"]["ttlSecondsAfterFinished"] - self._store.clock.seconds()
        )
        if left > 0:
            return left
        self._deletion.delete(JOBS, key, {"propagationPolicy": "Foreground"})
        return None
