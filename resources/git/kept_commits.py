"""Making way for a branch in a mirror, when the one that was followed before has a name that cannot stand beside it.

Git keeps branches as paths, so `main` and `main/next` exclude each other, and a fetch of one fails for ever while the
other is there. What a branch held, and what was force-pushed out of it, may have been released: each such commit gets a
reference of its own before the branch goes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from llmops_core.errors import TransientError

if TYPE_CHECKING:
    from pygit2 import Reference, Repository

KEPT = "refs/kept/"


def set_aside(clone: Path, branch: str) -> None:
    """Removes the branches that stand in the way of this one, and keeps their commits. One process at a time."""
    import pygit2

    try:
        repo = pygit2.Repository(str(clone), pygit2.enums.RepositoryOpenFlag.NO_SEARCH)
        try:
            wanted = f"refs/heads/{branch}"
            for name in [name for name in repo.references if _excludes(name, wanted)]:
                reference = repo.references[name]
                _keep(repo, reference)
                if repo.references["HEAD"].target == name:
                    repo.references.create("HEAD", wanted, force=True)  # unborn until the fetch
                reference.delete()
        finally:
            repo.free()
    except (pygit2.GitError, KeyError) as error:
        raise TransientError(f"no way can be made for {branch} in {clone}: {error}") from error


def _excludes(name: str, wanted: str) -> bool:
    return name.startswith(f"{wanted}/") or (name.startswith("refs/heads/") and wanted.startswith(f"{name}/"))


def _keep(repo: "Repository", reference: "Reference") -> None:
    """The newest commit, and those that were the newest once and are not in its history."""
    tip = reference.peel().id
    for commit in {tip, *(entry.oid_new for entry in reference.log())}:
        if commit in repo and (commit == tip or not repo.descendant_of(tip, commit)):
            repo.references.create(f"{KEPT}{commit}", commit, force=True)
