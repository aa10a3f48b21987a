"""A recipe's code is found once for each state of the repository: another state must not pass for a known one."""

import pytest

from resources.git.recipe_code import RecipeCode
from resources.git.source import GitSource


class Counting(GitSource):
    reads = 0

    def read(self, revision: str, path: str) -> bytes | None:
        self.reads += 1
        return super().read(revision, path)


@pytest.fixture
def source(repository) -> Counting:
    repository.commit({"recipes/tune.py": "import common.words\nimport absent\n", "common/words.py": "A = 1\n"})
    return Counting(repository.path)


@pytest.mark.parametrize(
    "change",
    [
        {"common/words.py": "A = 2\n"},
        {"common/__init__.py": ""},
        {"common/lists/words.txt": "a"},
        {"absent.py": ""},
        {"absent/__init__.py": ""},
        {"requirements/run.lock": "absent==2\n"},
    ],
)
def test_a_change_outside_the_known_folders_was_not_seen(repository, source, change: dict[str, str]) -> None:
    code, first = RecipeCode(source), source.head()
    before = code.of(first, "tune")
    second = repository.commit(change)
    assert code.of(second, "tune") != before
    assert code.of(first, "tune") == before


def test_files_were_read_again_for_a_commit_that_changes_no_code(repository, source) -> None:
    code = RecipeCode(source)
    before = code.of(source.head(), "tune")
    reads = source.reads
    for number in range(3):
        assert code.of(repository.commit({"README.md": f"{number}", "docs/a.md": f"{number}"}), "tune") == before
    assert source.reads == reads
