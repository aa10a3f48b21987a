"""Watches and followed logs: answers that go on while there is something to tell."""

import json
import time
from collections.abc import Iterator

from tests.fakes.kubernetes_clock import parsed
from tests.fakes.kubernetes_errors import ApiError, bad_request, expired, invalid
from tests.fakes.kubernetes_faults import Faults
from tests.fakes.kubernetes_kinds import PODS, Kind
from tests.fakes.kubernetes_logs import Logs, chosen, shown
from tests.fakes.kubernetes_selectors import field_test, label_test
from tests.fakes.kubernetes_store import Change, Json, Store
from tests.fakes.kubernetes_verbs import Verbs

Query = dict[str, str]
DEFAULT_SECONDS = 1800.0
LAST_BOOKMARK_SECONDS = 2.0  # before the time is over; a shorter watch may get none
LIST_OPTIONS = Kind("meta.k8s.io", "v1", "listoptions", "ListOptions")
SENT_INITIALLY = {"annotations": {"k8s.io/initial-events-end": "true"}}


def _check(query: Query) -> None:
    asked = query.get("resourceVersion", "")
    if asked and not asked.isdigit():
        why = f'resourceVersion: Invalid value: "{asked}": strconv.ParseUint: parsing "{asked}": invalid syntax'
        raise ApiError(500, "", why)
    if "sendInitialEvents" in query and query.get("resourceVersionMatch") != "NotOlderThan":
        message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise invalid(LIST_OPTIONS, "", [("resourceVersionMatch", "FieldValueForbidden", message)])


class Watches:
    """`bookmark_seconds` between bookmarks, a minute in a cluster; `open` counts those under way, `opened` all."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store, self._faults = store, faults
        self.bookmark_seconds = 60.0
        self.open = self.opened = 0
        self.closed = False

    def lines(self, kind: Kind, namespace: str, query: Query) -> Iterator[bytes]:
        """One JSON object a line; ends at `timeoutSeconds`, or when a fault drops it."""
        _check(query)
        return self._lines(_Watch(self._store, kind, namespace, query))

    def _lines(self, watch: "_Watch") -> Iterator[bytes]:
        generation = self._faults.watch_generation
        self.open += 1
        self.opened += 1
        try:
            yield from watch.begin()
            last_bookmark = time.monotonic()
            if watch.left_seconds() > LAST_BOOKMARK_SECONDS * 2:
                soon = watch.left_seconds() - LAST_BOOKMARK_SECONDS
                last_bookmark += min(soon - self.bookmark_seconds, 0.0)
            while True:
                told, over = watch.next(lambda: self.closed or self._faults.watch_generation != generation, 1.0)
                yield from told
                if self._faults.watch_generation != generation or self.closed:
                    return
                if watch.wants_bookmarks and time.monotonic() - last_bookmark >= self.bookmark_seconds:
                    last_bookmark = time.monotonic()
                    yield watch.bookmark({})
                if over:
                    return
        except ApiError as error:
            yield _line("ERROR", error.status())
        finally:
            self.open -= 1


class _Watch:
    def __init__(self, store: Store, kind: Kind, namespace: str, query: Query) -> None:
        self._store, self._kind, self._namespace = store, kind, namespace
        self._labels = label_test(query.get("labelSelector", ""))
        self._fields = field_test(query.get("fieldSelector", ""), kind)
        self._from = query.get("resourceVersion", "")
        self._initial = is_true(query.get("sendInitialEvents")) or self._from in ("", "0")
        self._end_told = is_true(query.get("sendInitialEvents"))
        self.wants_bookmarks = is_true(query.get("allowWatchBookmarks"))
        self._until = time.monotonic() + float(query.get("timeoutSeconds") or DEFAULT_SECONDS)
        self._position = int(self._from or 0)

    def left_seconds(self) -> float:
        return self._until - time.monotonic()

    def begin(self) -> list[bytes]:
        with self._store.lock:
            if not self._initial and self._position < self._store.compacted:
                raise expired(f"too old resource version: {self._position} ({self._store.compacted})")
            if not self._initial:
                return []
            self._position = self._store.version
            lines = [
                _line("ADDED", found) for found in self._store.all(self._kind, self._namespace) if self._wanted(found)
            ]
        return [*lines, self.bookmark(SENT_INITIALLY)] if self._end_told else lines

    def next(self, dropped: object, longest_seconds: float) -> tuple[list[bytes], bool]:
        """What happened since, after waiting for it; and whether the time is over."""
        with self._store.changed:
            if self._position >= self._store.version and not dropped():  # type: ignore[operator]
                self._store.changed.wait(max(min(self._until - time.monotonic(), longest_seconds), 0.0))
            changes = list(self._store.since(self._position, self._kind))
            self._position = max(self._store.version, self._position)
        told = [line for change in changes if (line := self._told(change))]
        return told, time.monotonic() >= self._until

    def bookmark(self, more: Json) -> bytes:
        metadata = {"resourceVersion": str(self._position)} | more
        return _line("BOOKMARK", {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata})

    def _wanted(self, found: Json) -> bool:
        metadata = found["metadata"]
        if self._namespace and metadata.get("namespace") != self._namespace:
            return False
        return self._labels(metadata.get("labels") or {}) and self._fields(found)

    def _told(self, change: Change) -> bytes | None:
        """An object that begins or ceases to match is told as added or deleted."""
        now, before = self._wanted(change.found), change.before is not None and self._wanted(change.before)
        if change.type == "DELETED":
            return _line("DELETED", change.found) if before else None
        if now:
            return _line("MODIFIED" if before else "ADDED", change.found)
        return _line("DELETED", _at(change.before, change.version)) if before and change.before else None


def _at(found: Json, version: int) -> Json:
    return {**found, "metadata": {**found["metadata"], "resourceVersion": str(version)}}


def _line(how: str, found: Json) -> bytes:
    return json.dumps({"type": how, "object": found}).encode() + b"\n"


def is_true(text: str | None) -> bool:
    """As the server reads truth values; Python's client writes `True`."""
    return text in ("1", "t", "T", "true", "TRUE", "True")


class LogReader:
    """`GET …/pods/<name>/log`, at once or followed."""

    def __init__(self, verbs: Verbs, logs: Logs, faults: Faults) -> None:
        self._verbs, self._logs, self._faults = verbs, logs, faults
        self.closed = False

    def read(self, namespace: str, name: str, query: Query) -> Iterator[bytes]:
        """Raises before the first byte what the server refuses."""
        pod = self._verbs.read(PODS, (namespace, name))
        container = self._container(pod, query.get("container", ""))
        uid = pod["metadata"]["uid"]
        previous = is_true(query.get("previous"))
        if previous:
            lines = self._logs.previous(uid, container)
            if lines is None:
                raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
            return iter([shown(self._chosen(lines, query), is_true(query.get("timestamps")))])
        self._check_started(pod, container)
        return self._lines(uid, container, query)

    @staticmethod
    def _container(pod: Json, asked: str) -> str:
        name, spec = pod["metadata"]["name"], pod["spec"]
        names = [one["name"] for one in spec["containers"]]
        if not asked and len(names) > 1:
            inits = "".join(
                f" or one of the init containers: [{one['name']}]" for one in spec.get("initContainers", [])[:1]
            )
            raise bad_request(
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]{inits}"
            )
        known = names + [one["name"] for one in spec.get("initContainers", [])]
        if asked and asked not in known:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked or names[0]

    @staticmethod
    def _check_started(pod: Json, container: str) -> None:
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
        for held in pod["status"].get("containerStatuses") or []:
            if held["name"] == container and "waiting" not in held["state"]:
                return
            if held["name"] == container and held.get("lastState", {}).get("terminated"):
                return
            if held["name"] == container:
                reason = held["state"]["waiting"]["reason"]
                why = {
                    "ErrImagePull": "image can't be pulled",
                    "ImagePullBackOff": "trying and failing to pull image",
                }.get(reason, reason)
                raise bad_request(
                    f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start: {why}'
                )
        raise bad_request(
            f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start: ContainerCreating'
        )

    def _chosen(self, lines: list[tuple[str, str]], query: Query) -> list[tuple[str, str]]:
        since: float | None = parsed(query["sinceTime"]) if query.get("sinceTime") else None
        if query.get("sinceSeconds"):
            since = self._verbs.store.clock.seconds() - float(query["sinceSeconds"])
        return chosen(lines, since, int(query["tailLines"]) if query.get("tailLines") else None)

    def _lines(self, uid: str, container: str, query: Query) -> Iterator[bytes]:
        timestamps = is_true(query.get("timestamps"))
        lines, more = self._logs.after(uid, container, 0)
        position = len(lines)
        first = shown(self._chosen(lines, query), timestamps)
        if query.get("limitBytes"):
            yield first[: int(query["limitBytes"])]
            return
        yield first
        generation = self._faults.watch_generation
        while is_true(query.get("follow")) and more and not self.closed:
            if self._faults.watch_generation != generation or self._verbs.store.with_uid(uid) is None:
                return
            with self._logs.changed:
                lines, more = self._logs.after(uid, container, position)
                if not lines and more:
                    self._logs.changed.wait(0.2)
                    continue
            position += len(lines)
            yield shown(lines, timestamps)
