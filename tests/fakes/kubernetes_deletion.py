"""Deletion: finalizers, grace, propagation.

An object goes at once unless something holds it: a finalizer (also those that foreground and orphan deletion add) or,
for a pod on a node, its grace period, which ends when the kubelet has stopped it. Until then it carries a
`deletionTimestamp`. A job deleted without a policy leaves its pods behind, as the real batch/v1 does.
"""

import copy
from typing import Any

from tests.fakes.kubernetes_clock import Clock
from tests.fakes.kubernetes_errors import invalid, precondition_failed
from tests.fakes.kubernetes_kinds import JOBS, NAMESPACES, PODS, Kind
from tests.fakes.kubernetes_names import unsupported
from tests.fakes.kubernetes_store import Json, Key
from tests.fakes.kubernetes_verbs import Verbs

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
ADDED = {"Foreground": FOREGROUND, "Orphan": ORPHAN}
ANSWERED_WITH_OBJECT = ("pods", "services", "serviceaccounts", "namespaces", "persistentvolumeclaims")
OPTIONS = Kind("meta.k8s.io", "v1", "deleteoptions", "DeleteOptions")
RECREATED = "The object might have been deleted and then recreated"
PRESERVED = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


class Deletion:
    def __init__(self, verbs: Verbs, clock: Clock) -> None:
        self._verbs = verbs
        self._store = verbs.store
        self._clock = clock

    def delete(self, kind: Kind, key: Key, options: Json | None = None) -> tuple[Json, list[str]]:
        """What the server answers (the object, or a Status when it is gone), and what it warns of."""
        options = options or {}
        with self._store.lock:
            found = self._verbs.read(kind, key)
            self._check(kind, found, options.get("preconditions") or {})
            policy = options.get("propagationPolicy")
            warned = [PRESERVED] if kind == JOBS and policy is None else []
            if options.get("dryRun"):
                return self._answer(kind, found, gone=True), warned
            return self._deleted(kind, found, policy, options.get("gracePeriodSeconds")), warned

    def finish(self, kind: Kind, key: Key) -> None:
        """Ends the grace of a pod that has stopped."""
        with self._store.lock:
            if self._store.get(kind, key) is not None:
                self._deleted(kind, self._verbs.read(kind, key), "Background", 0)

    @staticmethod
    def _check(kind: Kind, found: Json, wanted: Json) -> None:
        metadata = found["metadata"]
        for field, said in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(field) not in (None, metadata[field]):
                asked, has = wanted[field], metadata[field]
                why = f"the {said} in the precondition ({asked}) does not match the {said} in record ({has})"
                raise precondition_failed(kind, metadata["name"], f"{why}. {RECREATED}")

    def _deleted(self, kind: Kind, found: Json, policy: str | None, grace: int | None) -> Json:
        if policy not in (None, "Foreground", "Background", "Orphan"):
            allowed = ("Foreground", "Background", "Orphan", "nil")
            raise invalid(OPTIONS, "", [unsupported("propagationPolicy", policy, allowed)])
        found = copy.deepcopy(found)
        metadata = found["metadata"]
        held = [name for name in metadata.get("finalizers") or [] if name not in (FOREGROUND, ORPHAN)]
        kept = [name for name in metadata.get("finalizers") or [] if name in (FOREGROUND, ORPHAN)]
        if policy is None:
            held += kept or ([ORPHAN] if kind == JOBS else [])
        elif policy in ADDED:
            held.append(ADDED[policy])
        seconds = self._grace(kind, found, grace)
        if not held and not seconds and kind != NAMESPACES:
            gone = self._store.remove(kind, (metadata.get("namespace", ""), metadata["name"]))
            if "deletionGracePeriodSeconds" in gone["metadata"]:
                gone["metadata"]["deletionGracePeriodSeconds"] = 0
            return self._answer(kind, gone, True)
        if held:
            metadata["finalizers"] = held
        self._mark(kind, found, seconds)
        return self._answer(kind, self._store.put(kind, found))

    def _grace(self, kind: Kind, found: Json, asked: int | None) -> int:
        if kind != PODS:
            return 0
        if not found["spec"].get("nodeName") or found["status"].get("phase") in ("Succeeded", "Failed"):
            return 0
        seconds = found["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else max(asked, 0)
        before = found["metadata"].get("deletionGracePeriodSeconds")
        return seconds if before is None else min(seconds, before)

    def _mark(self, kind: Kind, found: Json, seconds: int) -> None:
        metadata = found["metadata"]
        if "deletionTimestamp" not in metadata:
            if "generation" in metadata:
                metadata["generation"] += 1
            ends = Clock()
            ends.advance(self._clock.seconds() - ends.seconds() + seconds)
            metadata["deletionTimestamp"] = ends.stamp()
        metadata["deletionGracePeriodSeconds"] = seconds
        if kind == NAMESPACES:
            found["status"] = {"phase": "Terminating"}

    @staticmethod
    def _answer(kind: Kind, found: Json, gone: bool = False) -> Json:
        metadata = found["metadata"]
        if not gone or kind.plural in ANSWERED_WITH_OBJECT:
            return found
        details: dict[str, Any] = {"name": metadata["name"], "kind": kind.plural, "uid": metadata["uid"]}
        if kind.group:
            details["group"] = kind.group
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
