"""The code that a recipe is at a revision: its files' digests and the versions of the packages they import.

Finding it parses some thirty files. Two revisions with equal code folders and locks have equal recipes, and Git tells
that by four object ids, so it is found once for each state of the code.
"""

from llmops_core.code_closure import PROJECT_PACKAGES, closure, locked_versions
from llmops_core.touched import LOCKS
from resources.source import SourceRepository

KEPT = 256


class RecipeCode:
    def __init__(self, source: SourceRepository) -> None:
        self._source = source
        self._known: dict[tuple[str | None, ...], dict[str, str]] = {}
        self._newest: tuple[str, tuple[str | None, ...]] = ("", ())

    def of(self, revision: str, recipe: str) -> dict[str, str]:
        """{path or package: digest or version}. Raises InputError when the recipe does not exist."""
        key = (recipe, *self._state(revision))
        if (known := self._known.get(key)) is not None:
            return known
        files, packages = closure(
            f"recipes.{recipe}",
            lambda path: self._source.read(revision, path),
            lambda folder: (path for path in self._source.files(revision, folder) if path.rpartition("/")[0] == folder),
        )
        lock = b"\n".join(self._source.read(revision, path) or b"" for path in LOCKS)
        while len(self._known) >= KEPT:
            self._known.pop(next(iter(self._known)))
        return self._known.setdefault(key, {**files, **locked_versions(lock, packages)})

    def _state(self, revision: str) -> tuple[str | None, ...]:
        """Git's ids of the code folders and locks; those of the newest revision are kept."""
        known, ids = self._newest
        if known != revision or len(revision) != 40:
            ids = tuple(self._source.tree_id(revision, path) for path in (*PROJECT_PACKAGES, *LOCKS))
            self._newest = (revision, ids)
        return ids
