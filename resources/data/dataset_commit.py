"""The door through which the platform itself proposes a new version of data: a commit on a branch of its own.

Nothing is done in anybody's working tree. A scratch clone that shares the repository's objects checks out only what DVC
needs, `dvc add` runs there, and the objects are pushed to DVC's remote before any branch points to them. The branch is
pushed to the repository as by any other clone, so its hooks and settings decide. Where the repository is a clone that
the platform made for itself, in a pod that will be gone, it goes to where that was cloned from. Git signs as nobody:
the author is the platform, which is no person and holds no role, so that whoever reviews the commit is not its author.
"""

import json
import os
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmops_core.errors import InputError, Problem, TransientError
from resources.data.dvc_pull import MEND
from resources.data.dvc_remotes import without_passwords
from resources.git.git_program import GitFailed
from resources.git.mirror import Mirror
from resources.storage.staging import staged

AUTHOR, EMAIL = "llmops-platform", "llmops-platform@llmops.invalid"
_MOVED = ("non-fast-forward", "fetch first", "stale info", "cannot lock ref", "failed to update ref")
_IN_THE_WAY = re.compile(r"'refs/heads/([^']+)' exists; cannot create")
_NEEDED_BY_DVC = ("/.dvc/", "/.dvcignore", "/.gitignore")


@dataclass(frozen=True)
class Proposal:
    """`content` becomes the file `path` in a commit on `base`, at the tip of `branch`. `declared_in` is the .dvc file
    that tracks the path or a folder around it already, if one does; `at` is the commit's time in ISO 8601."""

    base: str
    branch: str
    path: str
    declared_in: str | None
    content: bytes
    message: str
    at: str


@dataclass(frozen=True)
class Merged:
    """`moved`: the branch has got other commits meanwhile. `kept`: the repository refuses, for this reason."""

    state: Literal["merged", "moved", "kept"]
    reason: str = ""


class DatasetCommits(ABC):
    @abstractmethod
    def tip(self, branch: str) -> str | None:
        """The commit at the end of one of the repository's own branches, if there is such a branch."""

    @abstractmethod
    def propose(self, proposal: Proposal, instead_of: str | None = None) -> str:
        """Make the version and the commit, and let the branch point to it; its id. `instead_of` is what the branch
        points to now. The same proposal twice is the same commit. Raises InputError for what DVC or Git will not do,
        TransientError when another was there meanwhile or a remote cannot be reached."""

    @abstractmethod
    def merge(self, revision: str, branch: str) -> Merged:
        """Move a branch (`HEAD`: the one checked out) forward to this commit, if nothing else is on it."""


class GitDvcCommits(DatasetCommits):
    """Git and DVC as programs. `repository` is the clone the platform reads from, `work` a folder for scratch, `origin`
    the mirror that the repository is, where it is one."""

    def __init__(self, repository: Path, work: Path, origin: Mirror | None = None) -> None:
        self.repository = repository
        self.work = work
        self._origin = origin

    def tip(self, branch: str) -> str | None:
        if self._origin is not None and not self._origin.fetch(branch):
            return None
        done = _git(self.repository, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}", check=False)
        return done.stdout.strip() or None

    def propose(self, proposal: Proposal, instead_of: str | None = None) -> str:
        with staged(self.work) as clone:
            self._clone(proposal, clone)
            place = clone / proposal.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(proposal.content)
            pointer = Path(self._add(clone, proposal.path))
            ignore = pointer.with_name(".gitignore")
            _git(clone, "add", "--sparse", "--", str(pointer), *([str(ignore)] if (clone / ignore).is_file() else []))
            revision = _commit(clone, proposal)
            lease = f"--force-with-lease=refs/heads/{proposal.branch}:{instead_of or ''}"
            refused = self._pushed(clone, f"HEAD:refs/heads/{proposal.branch}", lease)
        if barred := _IN_THE_WAY.search(refused):
            message = f"Git keeps branches as paths, and so the branch {barred[1]} bars this one: rename or delete it"
            found, expected = f"a branch {barred[1]}", "no branch of this name"
            raise InputError(Problem(str(self.repository), f"push of {proposal.branch}", found, expected, message))
        if _is_moved(refused):
            if self.tip(proposal.branch) != revision:  # else another pod made this very proposal at the same time
                raise TransientError(f"{proposal.branch} was changed meanwhile by another")
        elif refused:
            raise _refused(self.repository, f"push of {proposal.branch}", refused)
        if self._origin is not None:
            self._origin.fetch(proposal.branch)
        return revision

    def merge(self, revision: str, branch: str) -> Merged:
        target = branch
        if branch == "HEAD":
            target = _git(self.repository, "symbolic-ref", "--quiet", "HEAD", check=False).stdout.strip()
        if not target:
            return Merged("kept", "no branch is checked out (HEAD is detached), so there is none to move")
        ref = target if target.startswith("refs/") else f"refs/heads/{target}"
        refused = self._pushed(self.repository, f"{revision}:{ref}")
        if self._origin is not None and (not refused or _is_moved(refused)):
            self._origin.fetch(branch)
        if not refused:
            return Merged("merged")
        if _is_moved(refused):
            return Merged("moved", f"{ref.removeprefix('refs/heads/')} has got other commits meanwhile")
        if "branch is currently checked out" in refused or "refusing to update checked out branch" in refused:
            return Merged("kept", "the branch is checked out, and Git does not change a working tree under its owner")
        return Merged("kept", f"the repository refuses it: {_last_words(refused)}")

    def _pushed(self, clone: Path, refspec: str, *options: str) -> str:
        """Sends what a clone has to the repository, or to where that came from; why it is refused, empty when it is
        not. Raises TransientError for a host that cannot be reached."""
        if self._origin is None:
            done = _git(clone, "push", *options, str(self.repository), refspec, check=False)
            return "" if done.returncode == 0 else done.stderr or "git push failed"
        try:
            self._origin.push(clone, refspec, *options)
        except GitFailed as error:
            if "rejected]" not in str(error):
                raise
            return str(error)
        return ""

    def _clone(self, proposal: Proposal, clone: Path) -> None:
        source = str(self.repository)
        _git(self.work, "clone", "--quiet", "--no-checkout", "--shared", "--template=", "--", source, str(clone))
        folder = Path(proposal.path).parent.as_posix()
        needed = [*_NEEDED_BY_DVC, f"/{folder}/", *([f"/{proposal.declared_in}"] if proposal.declared_in else [])]
        _git(clone, "sparse-checkout", "set", "--no-cone", *needed, f"/{Path(folder).parent.as_posix()}/.gitignore")
        _git(clone, "checkout", "--quiet", "--detach", proposal.base)
        if not (clone / ".dvc").is_dir():
            message = "the repository has no .dvc folder: run `dvc init` and commit"
            raise InputError(Problem(".dvc", "", "nothing", "DVC's settings", message))

    def _add(self, clone: Path, path: str) -> str:
        """The path of the .dvc file that changed."""
        request = {"clone": str(clone), "path": path, "repository": str(self.repository)}
        program = [sys.executable, "-P", "-m", "resources.data.dvc_add"]  # -P: not a `resources` of the current folder
        # from inside the clone, so that its errors name paths of the repository
        done = subprocess.run(program, cwd=clone, input=json.dumps(request), capture_output=True, text=True)
        said = without_passwords(done.stderr.strip().rpartition("\n")[2])
        if done.returncode == MEND:
            raise InputError(Problem(path, "", said, "a file that DVC can track and push", "DVC will not take it"))
        if done.returncode != 0:
            raise TransientError(f"DVC could not add or push {path}: {said}")
        return json.loads(done.stdout)["pointer"]


def _is_moved(said: str) -> bool:
    return any(words in said for words in _MOVED)


def _commit(clone: Path, proposal: Proposal) -> str:
    who = {"NAME": AUTHOR, "EMAIL": EMAIL, "DATE": proposal.at}
    environment = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    options = ("--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=verbatim", "--file=-")
    _git(clone, "commit", *options, stdin=proposal.message, environment=environment)
    return _git(clone, "rev-parse", "HEAD").stdout.strip()


def _git(
    folder: Path, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run Git in a folder, without questions on a terminal. Raises InputError when it fails and `check` is set."""
    foreign = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
    own = {key: value for key, value in os.environ.items() if key not in foreign}
    own |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})}
    done: Any = subprocess.run(["git", *arguments], cwd=folder, env=own, input=stdin, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise _refused(folder, f"git {arguments[0]}", done.stderr)
    return done


def _refused(folder: Path, what: str, said: str) -> InputError:
    return InputError(Problem(str(folder), what, _last_words(said), "that Git does it", "Git refuses"))


def _last_words(said: str) -> str:
    return without_passwords(" ".join(said.split()))[-300:]
