"""What the stand-in remembers: every object at its newest version, and the history of changes that watches read.

One number, the resource version, counts the changes of all kinds, as etcd's revision does. A watch starts behind a
version and reads on from there; history older than `compacted` is forgotten, and a watch or list that asks for it gets
410. Stored objects are never changed in place: a change stores another dict.
"""

import copy
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.fakes.kubernetes_clock import Clock
from tests.fakes.kubernetes_kinds import Kind

Json = dict[str, Any]
Key = tuple[str, str]  # namespace (empty for kinds without), name
FIRST_VERSION = 1000


@dataclass(frozen=True)
class Change:
    """`before` is None for ADDED; for DELETED `found` is the last state, at the version of the deletion."""

    version: int
    type: str
    kind: Kind
    found: Json
    before: Json | None


def key_of(found: Json) -> Key:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def owners_of(found: Json) -> list[Json]:
    return found["metadata"].get("ownerReferences") or []


class Store:
    """All methods may be called with `lock` held; `changed` tells of each new version."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = FIRST_VERSION
        self.compacted = FIRST_VERSION
        self.history: list[Change] = []
        self._found: dict[Kind, dict[Key, Json]] = defaultdict(dict)
        self._owned: dict[str, set[tuple[Kind, Key]]] = defaultdict(set)
        self._by_uid: dict[str, tuple[Kind, Key]] = {}
        self._first: dict[str, int] = {}

    def get(self, kind: Kind, key: Key) -> Json | None:
        return self._found[kind].get(key)

    def all(self, kind: Kind, namespace: str = "") -> list[Json]:
        """In order of namespace and name, as etcd lists."""
        with self.lock:
            keys = sorted(key for key in self._found[kind] if namespace in ("", key[0]))
            return [self._found[kind][key] for key in keys]

    def each(self, kind: Kind) -> list[Json]:
        """All of a kind in any order: quicker than `all`."""
        return list(self._found[kind].values())

    def with_uid(self, uid: str) -> tuple[Kind, Json] | None:
        found = self._by_uid.get(uid)
        return (found[0], self._found[found[0]][found[1]]) if found else None

    def first_version(self, uid: str) -> int:
        """The version with which an object was created: their order."""
        return self._first[uid]

    def owned_by(self, uid: str) -> list[tuple[Kind, Json]]:
        with self.lock:
            return [
                (kind, self._found[kind][key]) for kind, key in sorted(self._owned.get(uid, ()), key=lambda it: it[1])
            ]

    def add(self, kind: Kind, found: Json) -> Json:
        """Stores a new object, which has its uid already."""
        with self.lock:
            stored = copy.deepcopy(found)
            metadata = stored["metadata"]
            self._first[metadata["uid"]] = self.version + 1
            return self._put(kind, "ADDED", stored, None)

    def put(self, kind: Kind, found: Json) -> Json:
        """Stores the next version of an object; one that changes nothing keeps its version."""
        with self.lock:
            before = self._found[kind][key_of(found)]
            if found == before:
                return before
            return self._put(kind, "MODIFIED", copy.deepcopy(found), before)

    def remove(self, kind: Kind, key: Key) -> Json:
        with self.lock:
            before = self._found[kind].pop(key)
            self._by_uid.pop(before["metadata"]["uid"])
            self._unlink(kind, before)
            self.version += 1
            last = copy.deepcopy(before)
            last["metadata"]["resourceVersion"] = str(self.version)
            self._tell(Change(self.version, "DELETED", kind, last, before))
            return last

    def compact(self) -> None:
        """Forgets the history for clients: whoever reads on from an older version gets 410."""
        with self.lock:
            self.compacted = self.version
            self.changed.notify_all()

    def since(self, version: int, kind: Kind | None = None) -> Iterator[Change]:
        """Changes after a version, oldest first. Call with the lock held."""
        history, low, high = self.history, 0, len(self.history)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if history[middle].version <= version else (low, middle)
        return (change for change in history[low:] if kind is None or change.kind == kind)

    def _put(self, kind: Kind, how: str, stored: Json, before: Json | None) -> Json:
        self.version += 1
        stored["metadata"]["resourceVersion"] = str(self.version)
        if before:
            self._unlink(kind, before)
        self._found[kind][key_of(stored)] = stored
        self._by_uid[stored["metadata"]["uid"]] = kind, key_of(stored)
        for owner in owners_of(stored):
            self._owned[owner["uid"]].add((kind, key_of(stored)))
        self._tell(Change(self.version, how, kind, stored, before))
        return stored

    def _unlink(self, kind: Kind, found: Json) -> None:
        for owner in owners_of(found):
            self._owned[owner["uid"]].discard((kind, key_of(found)))

    def _tell(self, change: Change) -> None:
        self.history.append(change)
        self.changed.notify_all()
