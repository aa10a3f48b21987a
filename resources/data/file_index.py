"""What certain files say at a revision, kept in memory and brought from one revision to the next by their difference.

Reading every model.yaml or DVC pointer of a large repository takes seconds; a commit changes a few. The newest
revision's values are kept, and the next revision reads only what differs from it (Git compares two trees by their ids
and never enters a folder that is equal). Nothing is kept on disk, so nothing can be stale: a new process reads once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from resources.git.source import SourceRepository

Value = TypeVar("Value")


@dataclass(frozen=True)
class Snapshot(Generic[Value]):
    """{path: value} at a revision, sorted by path."""

    revision: str
    values: Mapping[str, Value]


class FileIndex(Generic[Value]):
    """Values of all files below `prefix` that `wanted` accepts. `affected` names further files that a changed file
    makes to be read again (a dvc.yaml rules how the dvc.lock beside it is read)."""

    def __init__(
        self,
        source: SourceRepository,
        wanted: Callable[[str], bool],
        parse: Callable[[str, str], Value],
        *,
        prefix: str = "",
        affected: Callable[[str], str] = str,
    ) -> None:
        self._source, self._wanted, self._parse, self._prefix = source, wanted, parse, prefix
        self._affected = affected
        self._newest: Snapshot[Value] | None = None
        self._lock = Lock()

    def at(self, revision: str) -> Snapshot[Value]:
        """`parse(revision, path)` of every wanted file. Raises what `parse` and the repository raise."""
        with self._lock:
            known = self._newest
            if known is None or known.revision != revision:
                known = Snapshot(revision, self._all(revision) if known is None else self._next(known, revision))
                if len(revision) == 40:  # a full id means the same for ever, a branch's name does not
                    self._newest = known
            return known

    def _all(self, revision: str) -> dict[str, Value]:
        files = self._source.files(revision, self._prefix)
        return {path: self._parse(revision, path) for path in files if self._wanted(path)}

    def _next(self, known: Snapshot[Value], revision: str) -> dict[str, Value]:
        changed = self._source.changed(known.revision, revision)
        if changed is None:
            return self._all(revision)
        again = {self._affected(path) for path in changed}
        again = {path for path in again if path.startswith(self._prefix) and self._wanted(path)}
        if not again:
            return dict(known.values)
        values = {path: value for path, value in known.values.items() if path not in again}
        there = (path for path in again if self._source.tree_id(revision, path) is not None)
        values |= {path: self._parse(revision, path) for path in there}
        return dict(sorted(values.items()))
