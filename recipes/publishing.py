"""Whole output folders or none: a recipe writes beside its destination and appears there in one rename.

A killed recipe leaves at most a `.partial` folder, which the next run of the same destination removes.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_core.errors import InputError, Problem


@contextmanager
def publishing(out: Path, first: bool = True) -> Iterator[Path]:
    """A folder to write into, renamed to `out` when the block ends well. Raises InputError if `out` holds anything.

    Of several processes of one recipe only the first may write; the others get the same path and nothing is done.
    """
    if not first:
        yield out
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problem = "would overwrite what is there"
        raise InputError(
            Problem(str(out), "--out", "a file or a folder with content", "a new or empty folder", problem)
        )
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.replace(out)
