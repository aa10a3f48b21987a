"""The door to the team's repository: what a Git revision says, never what a working tree happens to hold.

Everything is read from Git objects, which are immutable, so that two readers of one revision see the same bytes
whatever somebody is editing meanwhile. libgit2 opens a repository in about 0.1 ms and finds objects that were packed
or fetched since, so each call opens its own handle: no state is shared between threads. Importing pygit2 costs
55 ms, so it happens on first use.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.tree_path import checked_path
from resources.git.commit_pages import commit_page

if TYPE_CHECKING:
    from pygit2 import Repository

FILE, EXECUTABLE, SYMLINK, FOLDER, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o040000, 0o160000


@dataclass(frozen=True)
class Commit:
    """Who changed the repository, when (aware, UTC) and why. `parents` are full ids; at a shallow clone's edge none."""

    revision: str
    author: str
    email: str
    when: datetime
    message: str
    parents: tuple[str, ...]


Kinship = Literal["same", "forward", "rewritten", "unrelated", "unknown"]
COMMITS_NAMED = 100
LAST_SECOND = 253_402_300_799  # of the year 9999, the last that a date can hold


@dataclass(frozen=True)
class Passage:
    """How one revision follows another.

    `forward`: the new one contains the old one. `rewritten`: they have a common ancestor only, as after a force push.
    `unrelated`: no common ancestor. `unknown`: the old one is not here any more, or a shallow clone ends before it.
    `commits` are those that came (newest first, at most COMMITS_NAMED), `dropped` those that the new history lacks.
    """

    kinship: Kinship
    commits: tuple[Commit, ...] = ()
    dropped: tuple[Commit, ...] = ()


class SourceRepository(ABC):
    """Git as the rest of the project sees it. Revisions are full commit ids; paths are relative, with `/`, "" the root.

    Every method raises InputError for a revision or branch that is not there.
    """

    @abstractmethod
    def head(self, branch: str | None = None) -> str:
        """The newest commit of a branch (local first, then origin's), or of HEAD."""

    @abstractmethod
    def resolve(self, ref: str) -> str:
        """The full commit id of a branch, tag or (abbreviated) commit."""

    @abstractmethod
    def commit(self, revision: str) -> Commit: ...

    @abstractmethod
    def read(self, revision: str, path: str) -> bytes | None:
        """A file's content; None where no file is. InputError for a symbolic link or submodule."""

    @abstractmethod
    def blobs(self, revision: str, prefix: str = "") -> dict[str, str]:
        """Every file at or below `prefix` with its blob id, sorted by path. A symbolic link counts, a submodule not."""

    @abstractmethod
    def tree_id(self, revision: str, path: str) -> str | None:
        """The object id of a folder or file: equal ids mean equal contents. None where nothing is."""

    @abstractmethod
    def changed(self, base: str, head: str) -> frozenset[str] | None:
        """Paths of all files that differ between two revisions (those gone and those new too); None when `base` is
        not here any more, so that nothing is known about it."""

    @abstractmethod
    def passage(self, old: str, new: str) -> Passage:
        """How `new` follows `old`, which may be gone."""

    @abstractmethod
    def is_ancestor(self, ancestor: str, revision: str) -> bool:
        """Whether `revision` contains `ancestor` (or is it)."""

    @abstractmethod
    def export(self, revision: str, target: Path) -> None:
        """Write the revision's files to `target`, whole or not at all; checks it instead when it is there already."""

    @abstractmethod
    def web_link(self, revision: str) -> str | None:
        """The page that shows the commit, or None when the repository's origin has no such page."""

    def files(self, revision: str, prefix: str = "") -> list[str]:
        return list(self.blobs(revision, prefix))


class GitSource(SourceRepository):
    """A clone on this machine. `repository` is its top folder; a bare repository is refused, DVC needs a work tree.
    `origin` is the address of the host that has it, where the clone's own configuration does not say so."""

    def __init__(self, repository: Path, origin: str = "") -> None:
        self.repository = repository
        self._origin = origin

    def head(self, branch: str | None = None) -> str:
        if branch is None:
            return self.resolve("HEAD")
        with self._open() as repo:
            for reference in (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"):
                if reference in repo.references:
                    return str(repo.references[reference].peel().id)
        raise self._problem("branch", branch, "a branch of this repository or of its origin", "there is no such branch")

    def resolve(self, ref: str) -> str:
        with self._open() as repo:
            return str(self._commit_object(repo, ref).id)

    def commit(self, revision: str) -> Commit:
        with self._open() as repo:
            found = self._commit_object(repo, revision)
            return _commit(found)

    def read(self, revision: str, path: str) -> bytes | None:
        with self._open() as repo:
            found = self._at(repo, revision, path)
            if found is None or found.type_str == "tree":
                return None
            if found.filemode not in (FILE, EXECUTABLE):
                raise self._problem(path, "a symbolic link or submodule", "a plain file", "is not read through")
            return bytes(found.data)

    def blobs(self, revision: str, prefix: str = "") -> dict[str, str]:
        with self._open() as repo:
            found = self._at(repo, revision, prefix)
            if found is None:
                return {}
            if found.type_str != "tree":
                return {prefix: str(found.id)} if found.type_str == "blob" else {}
            entries = walk_tree(found, f"{prefix.rstrip('/')}/" if prefix else "")
            return dict(sorted((path, str(entry.id)) for path, entry in entries if entry.filemode != SUBMODULE))

    def tree_id(self, revision: str, path: str) -> str | None:
        with self._open() as repo:
            try:
                found = self._at(repo, revision, path)
            except InputError:  # no path that this platform would read
                return None
            return str(found.id) if found is not None else None

    def changed(self, base: str, head: str) -> frozenset[str] | None:
        with self._open() as repo:
            new = self._commit_object(repo, head).tree
            try:
                old = self._commit_object(repo, base).tree
            except InputError:
                return None
            return frozenset(differing(old, new))

    def passage(self, old: str, new: str) -> Passage:
        with self._open() as repo:
            newer = self._commit_object(repo, new).id
            try:
                older = self._commit_object(repo, old).id
            except InputError:
                return Passage("unknown")
            if older == newer:
                return Passage("same")
            common = repo.merge_base(older, newer)
            if common is None:
                return Passage("unknown" if repo.is_shallow else "unrelated")
            came, dropped = _between(repo, older, newer), _between(repo, newer, older)
            return Passage("forward" if common == older else "rewritten", came, dropped)

    def is_ancestor(self, ancestor: str, revision: str) -> bool:
        with self._open() as repo:
            old, new = self._commit_object(repo, ancestor).id, self._commit_object(repo, revision).id
            contained = old == new or repo.descendant_of(new, old)
            if not contained and repo.is_shallow:
                raise self._problem("", "a shallow clone", "the whole history", "run `git fetch --unshallow` first")
            return contained

    def export(self, revision: str, target: Path) -> None:
        from resources.git.git_export import export_tree

        with self._open() as repo:
            export_tree(repo, self._commit_object(repo, revision), target)

    def web_link(self, revision: str) -> str | None:
        if self._origin:
            return commit_page(self._origin, revision)
        with self._open() as repo:
            if "origin" not in repo.remotes.names():
                return None
            return commit_page(repo.remotes["origin"].url or "", revision)

    @contextmanager
    def _open(self) -> Iterator["Repository"]:
        """A handle of this call's own. A missing or damaged object (KeyError, GitError) becomes an IntegrityError."""
        import pygit2

        try:
            # never the repository of a folder above: a mirror that is gone must not pass for the checkout around it
            repo = pygit2.Repository(str(self.repository), pygit2.enums.RepositoryOpenFlag.NO_SEARCH)
        except pygit2.GitError as error:
            todo = "run `git init` or name the repository"
            if "owned" in str(error):  # the platform runs as another user, as in a container
                todo = f"run `git config --global --add safe.directory {self.repository}` if you trust it"
            raise self._problem("", str(error), "a Git repository", todo) from None
        try:
            if repo.is_bare:
                raise self._problem("", "a bare repository", "a clone with a working tree", "clone it first")
            yield repo
        except (pygit2.GitError, UnicodeDecodeError, KeyError) as error:
            raise IntegrityError(f"{self.repository}: Git cannot read its objects: {error}; run `git fsck`") from error
        finally:
            repo.free()

    def _commit_object(self, repo: "Repository", ref: str) -> Any:
        import pygit2

        if repo.is_empty or (ref == "HEAD" and repo.head_is_unborn):
            raise self._problem("", "a repository without commits", "at least one commit", "commit something first")
        try:
            return repo.revparse_single(ref).peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.InvalidSpecError):
            hint = "; the clone is shallow, run `git fetch --unshallow`" if repo.is_shallow else ""
            raise self._problem("revision", ref, "a commit", f"this repository has no such revision{hint}") from None

    def _at(self, repo: "Repository", revision: str, path: str) -> Any:
        """The object at a path, the root tree for "", None for nothing."""
        tree = self._commit_object(repo, revision).tree
        if not path:
            return tree
        try:
            return tree[checked_path(path.rstrip("/"))]
        except KeyError:
            return None
        except ValueError as error:
            raise self._problem(path, path, "a path inside the repository", str(error)) from None

    def _problem(self, field: str, found: str, expected: str, message: str) -> InputError:
        return InputError(Problem(str(self.repository), field, found, expected, message))


def _commit(found: Any) -> Commit:
    return Commit(
        revision=str(found.id),
        author=found.author.raw_name.decode(errors="replace"),
        email=found.author.raw_email.decode(errors="replace"),
        when=datetime.fromtimestamp(min(max(found.commit_time, 0), LAST_SECOND), UTC),
        message=_message(found),
        parents=tuple(str(parent) for parent in found.parent_ids),
    )


def _message(found: Any) -> str:
    try:
        return str(found.message)
    except (LookupError, UnicodeDecodeError):  # an encoding that nobody knows, or another than it says
        return found.raw_message.decode(errors="replace")


def _between(repo: "Repository", old: Any, new: Any) -> tuple[Commit, ...]:
    """The commits that `new` has and `old` has not, newest first."""
    walker = repo.walk(new)
    walker.hide(old)
    return tuple(_commit(found) for found in islice(walker, COMMITS_NAMED))


def differing(old: Any, new: Any) -> Iterator[str]:
    """Paths of the files that are not the same in two trees. A folder with equal ids is not entered: libgit2's own diff
    walks all files of both, which takes ten times as long at 100 000 of them."""
    waiting = [("", old, new)]
    while waiting:
        folder, before, after = waiting.pop()
        olds, news = ({entry.name: entry for entry in tree or ()} for tree in (before, after))
        for name in olds.keys() | news.keys():
            one, other = olds.get(name), news.get(name)
            if one is not None and other is not None and (one.id, one.filemode) == (other.id, other.filemode):
                continue
            trees = [entry for entry in (one, other) if entry is not None and entry.filemode == FOLDER]
            if trees:
                waiting.append((f"{folder}{name}/", one if one in trees else None, other if other in trees else None))
            if len(trees) < (one is not None) + (other is not None):
                yield folder + name


def walk_tree(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, entry) of everything below a tree that is not itself a tree. Raises IntegrityError for hostile names."""
    stack = [(prefix, tree)]
    while stack:
        folder, current = stack.pop()
        for entry in current:
            if entry.name in ("", ".", "..", ".git") or "/" in entry.name:
                raise IntegrityError(f"the Git tree {current.id} holds an entry named {entry.name!r}; run `git fsck`")
            if entry.filemode == FOLDER:
                stack.append((f"{folder}{entry.name}/", entry))
            else:
                yield folder + entry.name, entry
