"""The files of the platform's owner that rule releases and cannot be ruled by them: settings, and who may sign.

On a machine with a checkout they are what stands in the checkout. In a pod they are what stands at the head of the
branch that is followed, in a clone that the platform makes and fetches: never in a working tree, which would be half
written while another thread reads it.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llmops_core.errors import InputError, TransientError
from llmops_core.repositories import WatchedRepository
from resources.git.mirror import Mirror
from resources.git.source import GitSource
from resources.home import Home

FETCH_SECONDS = 15.0  # what was fetched so long ago is fetched again before a decision rests on it
PATIENCE_SECONDS = 600.0  # for the first clone; less than a run may take to begin (startTimeoutSeconds of its launcher)
PAUSE_SECONDS = 5.0
LONGEST_HISTORY = 200  # commits

log = logging.getLogger("llmops.repository")


@dataclass(frozen=True)
class Version:
    """A file as a commit left it, or that it left none: `content` is None then, and `lacks` says what is there instead.
    `revision` is empty for a checkout."""

    revision: str
    content: bytes | None
    lacks: str = ""


class RulingFiles(ABC):
    """Paths are relative to the repository."""

    place: str

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """The file as it is known here; None where there is none. Where nothing is known yet, the repository is cloned,
        and an outage is waited for: a run whose worker died begins again in a new pod. TransientError when it lasts."""

    @abstractmethod
    def read_now(self, path: str) -> bytes | None:
        """The file as it stands now. Raises TransientError where that cannot be known: what was taken back since the
        last look must not count."""

    @abstractmethod
    def versions(self, path: str) -> Iterator[Version]:
        """The file as it is known here, then as it was before, if that is known: newest first. A commit that took it
        away made a version without content; a file that never was has no version."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """The files of a folder."""

    @abstractmethod
    def state(self, path: str) -> str:
        """Differs where `read` does; empty where people work, who start the platform again when they change a file."""

    @abstractmethod
    def head(self) -> str:
        """The newest commit that is known here; empty where people work."""


class CheckedOut(RulingFiles):
    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self.place = str(repository)

    def read(self, path: str) -> bytes | None:
        file = self._repository / path
        return file.read_bytes() if file.is_file() else None

    def read_now(self, path: str) -> bytes | None:
        return self.read(path)

    def versions(self, path: str) -> Iterator[Version]:
        content = self.read(path)
        yield from () if content is None else (Version("", content),)

    def names(self, folder: str) -> list[str]:
        return sorted(each.name for each in (self._repository / folder).glob("*") if each.is_file())

    def state(self, path: str) -> str:
        return ""

    def head(self) -> str:
        return ""


class Followed(RulingFiles):
    """`root` is the platform's state folder, in which the clone is made."""

    def __init__(self, root: Path, origin: WatchedRepository) -> None:
        self._branch = origin.branch or ""
        self.mirror = Mirror(root, origin, self._branch, allowed_endpoints=None)
        self._source = GitSource(self.mirror.clone)
        self.place = f"{self._branch} of {origin.url}"

    def read(self, path: str) -> bytes | None:
        return self._source.read(self._head(), path)

    def read_now(self, path: str) -> bytes | None:
        self.mirror.younger_than(FETCH_SECONDS, FETCH_SECONDS)
        return self.read(path)

    def versions(self, path: str) -> Iterator[Version]:
        gone: Version | None = None
        for version in self._changes(path):
            if version.content is None:
                gone = gone or version
                continue
            if gone is not None:
                yield gone
            gone = None
            yield version

    def _changes(self, path: str) -> Iterator[Version]:
        """What each commit made of the file that changed it, on the way that the branch went (by first parents), and
        what it was where that way ends."""
        revision = self._head()
        blob = self._source.tree_id(revision, path)
        for _ in range(LONGEST_HISTORY):
            parent = self._parent(revision)
            if parent is None:
                break
            before = self._source.tree_id(parent, path)
            if before != blob:
                yield self._version(revision, path)
            revision, blob = parent, before
        yield self._version(revision, path)

    def _parent(self, revision: str) -> str | None:
        parents = self._source.commit(revision).parents
        try:
            return self._source.resolve(parents[0]) if parents else None
        except InputError:  # the origin is a shallow clone, which ends here
            return None

    def _version(self, revision: str, path: str) -> Version:
        try:
            content = self._source.read(revision, path)
        except InputError as error:
            return Version(revision, None, error.problems[0].found)
        return Version(revision, content, "nothing" if content is None else "")

    def names(self, folder: str) -> list[str]:
        paths = self._source.files(self._head(), folder)
        return [path.removeprefix(f"{folder}/") for path in paths if path.count("/") == folder.count("/") + 1]

    def state(self, path: str) -> str:
        return self._source.tree_id(self._head(), path) or ""

    def head(self) -> str:
        return self._head()

    def _head(self) -> str:
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.mirror.clone.exists():
            try:
                self.mirror.younger_than(FETCH_SECONDS, FETCH_SECONDS)
            except TransientError as error:
                if time.monotonic() > until or not self.mirror.reach().failures:
                    raise
                log.warning("waiting for %s: %s", self.place, error)
                time.sleep(PAUSE_SECONDS)
        return self._source.head(self._branch)


@lru_cache(maxsize=8)
def ruling_files(home: Home) -> RulingFiles:
    """One for each home in a process, which remembers when it fetched."""
    return CheckedOut(home.repository) if home.origin is None else Followed(home.root, home.origin)
