"""The code that a recipe is at a revision: its files' digests and the versions of the packages they import.

Finding it parses some thirty files. It is found once for each state of the code: while Git has the same objects under
all names at the top of the repository that were ever looked at (folders, modules, and names that are not there), a
recipe is the same.
"""

from collections.abc import Iterable

from llmops_core.code_closure import closure, locked_versions
from llmops_core.touched import LOCKS
from resources.git.source import SourceRepository

KEPT = 256


class RecipeCode:
    def __init__(self, source: SourceRepository) -> None:
        self._source = source
        self._names: frozenset[str] = frozenset(LOCKS)
        self._known: dict[tuple[object, ...], dict[str, str]] = {}
        self._newest: tuple[str, tuple[object, ...]] = ("", ())

    def of(self, revision: str, recipe: str) -> dict[str, str]:
        """{path or package: digest or version}. Raises InputError when the recipe does not exist."""
        if (known := self._known.get((recipe, *self._state(revision)))) is not None:
            return known
        looked: set[str] = set(LOCKS)

        def read(path: str) -> bytes | None:
            looked.add(path.partition("/")[0])
            return self._source.read(revision, path)

        def below(folder: str) -> Iterable[str]:
            looked.add(folder.partition("/")[0])
            return self._source.files(revision, folder)

        files, packages = closure(f"recipes.{recipe}", read, below)
        lock = b"\n".join(self._source.read(revision, path) or b"" for path in LOCKS)
        self._names |= looked
        while len(self._known) >= KEPT:
            self._known.pop(next(iter(self._known)))
        return self._known.setdefault((recipe, *self._state(revision)), {**files, **locked_versions(lock, packages)})

    def _state(self, revision: str) -> tuple[object, ...]:
        """The names that count, and Git's ids of them; those of the newest revision are kept."""
        known, state = self._newest
        if known != revision or len(revision) != 40 or state[0] is not self._names:
            names = self._names
            state = (names, *(self._source.tree_id(revision, name) for name in sorted(names)))
            self._newest = (revision, state)
        return state
