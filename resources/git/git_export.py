"""A clean copy of one revision's files, published by one rename.

A tree is untrusted: whoever can push can put a symbolic link in it that points at this machine's files. Files are
written first and links last, so nothing is ever written through a link; then every link must resolve inside the copy.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, Problem
from llmops_core.tree_path import checked_paths
from resources.git.source import EXECUTABLE, SUBMODULE, SYMLINK, walk_tree
from resources.storage.disk import disk_full
from resources.storage.staging import publish, staged

if TYPE_CHECKING:
    from pygit2 import Repository

IGNORED_FOLDER = "__pycache__"  # programs run from an export leave byte code beside themselves


def export_tree(repo: "Repository", commit: Any, target: Path) -> None:
    """Write a commit's files, executable bits and inner links to `target`. A target that exists is verified instead.

    Raises InputError for submodules and links that leave the tree, IntegrityError for a changed earlier export.
    """
    entries = _entries(commit)
    if target.exists():
        _verify(entries, target)
        return
    try:
        with staged(target.parent) as partial:
            _write(repo, entries, partial)
            _check_links(entries, partial, str(commit.id))
            publish(partial, target)
    except OSError as error:
        if target.exists():  # another process was first
            _verify(entries, target)
        elif disk_full(error):
            raise EnvironmentLacks(f"no space left for an export of {commit.id} at {target.parent}") from error
        else:
            raise


def _entries(commit: Any) -> dict[str, Any]:
    """{path: Git object} of a commit, when all of it can be written side by side."""
    revision, found = str(commit.id), list(walk_tree(commit.tree))
    try:
        checked_paths(path for path, _ in found)
    except ValueError as error:
        raise InputError(Problem(revision, "", str(error), "plain file names, each once", "rename the file")) from None
    modules = [path for path, entry in found if entry.filemode == SUBMODULE]
    if modules:
        message = "submodules are not followed; copy what you need into the repository or track it with DVC"
        raise InputError(*[Problem(revision, path, "a submodule", "files", message) for path in modules])
    return dict(found)


def _write(repo: "Repository", entries: dict[str, Any], folder: Path) -> None:
    links = {path: entry for path, entry in entries.items() if entry.filemode == SYMLINK}
    for path, entry in entries.items():
        if path in links:
            continue
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:
            stream.write(_content(repo, entry))
        place.chmod(0o755 if entry.filemode == EXECUTABLE else 0o644)
    for path, entry in links.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(os.fsdecode(_content(repo, entry)))


def _content(repo: "Repository", entry: Any) -> bytes:
    blob: Any = repo[entry.id]
    return blob.data


def _check_links(entries: dict[str, Any], folder: Path, revision: str) -> None:
    """Links are followed for real, chains included, because `a/link/..` need not be `a`."""
    root = folder.resolve()
    problems: list[Problem] = []
    for path, entry in entries.items():
        if entry.filemode != SYMLINK:
            continue
        points_to = (folder / path).readlink()
        try:
            inside = not points_to.is_absolute() and (folder / path).resolve().is_relative_to(root)
        except (OSError, RuntimeError):  # a loop
            inside = False
        if not inside:
            problems.append(Problem(revision, path, f"a link to {points_to}", "a link inside the tree", "is refused"))
    if problems:
        raise InputError(*problems)


def _verify(entries: dict[str, Any], target: Path) -> None:
    """Every file of the commit with its content, and nothing else."""
    import pygit2

    wrong: list[str] = []
    for path, entry in entries.items():
        place = target / path
        if entry.filemode == SYMLINK:
            same = place.is_symlink() and pygit2.hash(os.fsencode(place.readlink())) == entry.id
        else:
            same = place.is_file() and not place.is_symlink() and pygit2.hashfile(str(place)) == entry.id
        if not same:
            wrong.append(path)
    for parent, folders, names in os.walk(target):
        folders[:] = [name for name in folders if name != IGNORED_FOLDER and not (Path(parent) / name).is_symlink()]
        found = (str((Path(parent) / name).relative_to(target)) for name in names)
        wrong.extend(path for path in found if path not in entries)
    if wrong:
        listed = ", ".join(sorted(wrong)[:10])
        raise IntegrityError(f"{target} is no longer the commit's export: {listed} differ; look why, then remove it")
