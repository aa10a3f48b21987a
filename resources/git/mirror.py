"""The door to a repository elsewhere: a clone of the platform's own, which follows one branch of it.

The clone has no checkout: everything is read from Git objects. Beside `.git` lies what is followed of the `.dvc/config`
of the branch's head (llmops_core/dvc_config.py; all of it, if the repository is the platform's own, fetched into a
pod), so that DVC finds that repository's remote. Only the watched branch is
fetched, and what a force push took out of its history stays, because it may have been released. So does what a branch
held that is followed no more: where its name stands in the way of the new one's (`main` and `main/next` cannot both be
there), its commits are kept under `refs/kept`, where no name can be in the way.

The first clone is made aside and published by rename. Later fetches need no care: git moves the branch last, and what
a killed fetch left locked is swept away after the next one failed on it. One process fetches at a time. A failure is
kept in `reach.json` with the time of the next try, so that an outage is told by all processes alike.
"""

import math
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from llmops_core import dvc_config
from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from llmops_core.outage import Reach, read_reach
from llmops_core.repositories import WatchedRepository
from resources.git.git_program import GitFailed, GitProgram
from resources.git.kept_commits import set_aside
from resources.git.source import GitSource
from resources.home import clone_of
from resources.storage.publishing import exclusive, publish_json, publish_text, read_json
from resources.storage.staging import publish, staged

LOCK_SECONDS = 2.0
NO_BRANCH = "couldn't find remote ref"
FETCH = ("fetch", "--quiet", "--update-head-ok", "--update-shallow", "--no-tags", "--no-recurse-submodules")
FETCH += ("--no-write-fetch-head", "--")


class Mirror:
    """The clone of one repository. `branch` is the one that is followed. `allowed_endpoints` are for somebody else's
    repository; None says that it is the platform's own."""

    def __init__(
        self,
        mirrors: Path,
        repository: WatchedRepository,
        branch: str,
        now: Callable[[], float] = time.time,
        allowed_endpoints: Collection[str] | None = (),
    ) -> None:
        self.clone = clone_of(mirrors, repository.name)
        self._folder = self.clone.parent
        self._repository, self._branch, self._now = repository, branch, now
        self._allowed = allowed_endpoints
        self._git = GitProgram(repository)
        self._fetched_at = -math.inf  # by this process's own clock

    def reach(self) -> Reach:
        """What the last fetch found; asks nobody."""
        return read_reach(read_json(self._folder / "reach.json") or {})

    def refresh(self, interval_seconds: float) -> Reach:
        """Fetches the branch, unless the pause after a failure lasts still. The clone may be read when nothing is
        wrong with the result.

        Raises TransientError or EnvironmentLacks when it was tried and failed; nothing of what was there is lost.
        """
        before = self.reach()
        if before.pauses(self._now()):
            return before
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(exclusive(self._folder / "lock", LOCK_SECONDS))
            except TransientError:
                return Reach(f"{self._told} is being fetched by another process", self._now())
            try:
                lacks = self._fetch(before, lock)
            except (TransientError, EnvironmentLacks) as error:
                after = before.failed(self._now(), f"{self._told} cannot be fetched: {error}", interval_seconds)
                self._keep(after)
                raise type(error)(after.told) from None
            after = before.answered(self._now(), lacks)
            if after != before:
                self._keep(after)
            self._fetched_at = time.monotonic()
            return after

    def younger_than(self, seconds: float, interval_seconds: float) -> None:
        """Fetches the branch unless this process did within so many seconds. Raises TransientError where the branch
        cannot be had now, whatever was fetched before."""
        if time.monotonic() - self._fetched_at >= seconds and (told := self.refresh(interval_seconds).told):
            raise TransientError(told)

    def fetch(self, branch: str) -> bool:
        """Brings another branch of the remote as it is there now; False, and gone here, where it has none."""
        with exclusive(self._folder / "lock") as lock:
            try:
                self._git.run(f"--git-dir={self.clone / '.git'}", *FETCH, *self._refspec(branch), lock=lock)
            except GitFailed as error:
                if NO_BRANCH not in str(error):
                    raise
                self._git.run(f"--git-dir={self.clone / '.git'}", "update-ref", "-d", f"refs/heads/{branch}")
                return False
            return True

    def push(self, repository: Path, refspec: str, *options: str) -> None:
        """Sends what a clone has to the remote. Raises GitFailed with what the remote said."""
        self._git.run("-C", repository, "push", "--quiet", "--no-verify", *options, self._repository.url, refspec)

    def end_pause(self) -> None:
        """Lets the next `refresh` ask at once, as after a sign that the host is there. How long it has failed stays
        known, so that the pause after one more failure is the longer one."""
        with exclusive(self._folder / "lock", LOCK_SECONDS):
            before = self.reach()
            if before.pauses(self._now()):
                self._keep(replace(before, next_try=self._now()))

    @property
    def _told(self) -> str:
        return f"{self._repository.name} ({self._repository.url})"

    def _fetch(self, before: Reach, lock: int) -> str:
        """Why the branch is not to be had from the remote that was reached; empty when it is here."""
        try:
            if self.clone.exists():
                if before.failures:
                    self._sweep()
                set_aside(self.clone, self._branch)
                self._git.run(f"--git-dir={self.clone / '.git'}", *FETCH, *self._refspec(self._branch), lock=lock)
            else:
                with staged(self._folder) as folder:
                    self._git.run("init", "--quiet", "--template=", f"--initial-branch={self._branch}", folder)
                    self._git.run(f"--git-dir={folder / '.git'}", *FETCH, *self._refspec(self._branch), lock=lock)
                    publish(folder, self.clone)
            self._keep_dvc_config()
        except GitFailed as error:
            if NO_BRANCH not in str(error):
                raise
            return f"{self._told} has no branch {self._branch}: nothing is released, and what serves goes on"
        except InputError as error:
            return f"{self._told}: {error}; nothing is released until that is mended there"
        return ""

    def _refspec(self, branch: str) -> tuple[str, str]:
        return self._repository.url, f"+refs/heads/{branch}:refs/heads/{branch}"

    def _keep_dvc_config(self) -> None:
        source, place = GitSource(self.clone), self.clone / dvc_config.FILE
        given = source.read(source.head(self._branch), dvc_config.FILE) or b""
        if self._allowed is None:
            content = given.decode(errors="replace")
        else:
            content = dvc_config.followed_config(given, self._allowed, self._repository.scheme == "file")
        if not place.is_file() or place.read_text(encoding="utf-8") != content:
            publish_text(place, content)

    def _sweep(self) -> None:
        """Locks and half packs of a fetch that was killed; nobody fetches now."""
        git = self.clone / ".git"
        halves = (git / "objects" / "pack").glob("tmp_*")
        for left in (*git.glob("*.lock"), *(git / "refs").rglob("*.lock"), *halves):
            left.unlink(missing_ok=True)

    def _keep(self, reach: Reach) -> None:
        publish_json(self._folder / "reach.json", reach.as_dict())
