"""What somebody has changed in a clone and not committed: a release reads commits, so it is no part of one."""

import re
from pathlib import Path

# what a release depends on: models, environments, programs and what they are installed from, pipelines and pointers
_RELEVANT = re.compile(
    r"(models|config|recipes|requirements)/.+|pyproject\.toml|(.+/)?(params\.yaml|dvc\.yaml|dvc\.lock|[^/]+\.dvc)"
)


def not_committed(repository: Path) -> list[str]:
    """Files that a release would read and that differ from HEAD or are new, sorted. What Git ignores is left out."""
    from pygit2 import Repository
    from pygit2.enums import FileStatus

    found = Repository(str(repository)).status(untracked_files="all")
    return sorted(path for path, flags in found.items() if flags != FileStatus.IGNORED and _RELEVANT.fullmatch(path))
