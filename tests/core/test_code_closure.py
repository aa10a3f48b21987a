"""Code that a recipe reaches must count, code that it does not reach must not."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_core.code_closure import WHOLE_LOCK, closure, locked_versions
from llmops_core.errors import InputError

FILES = {
    "recipes/finetune.py": b"import torch\nfrom recipes.rows import read\nfrom recipes import packing\n",
    "recipes/rows.py": b"from llmops_core.errors import InputError\ndef f():\n    import peft.tuners\n",
    "recipes/packing.py": b"",
    "recipes/__init__.py": b"",
    "recipes/atlas/__init__.py": b"",
    "recipes/other.py": b"import numpy",
    "llmops_core/errors.py": b"import json",
}


def found(files: dict[str, bytes] = FILES) -> tuple[dict[str, str], set[str]]:
    return closure("recipes.finetune", files.get, below(files))


def below(files: dict[str, bytes]) -> Callable[[str], list[str]]:
    return lambda folder: [path for path in files if path.startswith(f"{folder}/")]


def test_a_module_reached_over_another_was_left_out() -> None:
    assert set(found()[0]) == {
        "recipes/finetune.py",
        "recipes/rows.py",
        "recipes/packing.py",
        "recipes/__init__.py",
        "llmops_core/errors.py",
    }


def test_an_import_inside_a_function_was_left_out() -> None:
    assert {"torch", "peft"} <= found()[1]
    assert "numpy" not in found()[1]


def test_a_change_was_not_seen_or_a_foreign_one_was() -> None:
    changed = {**FILES, "recipes/rows.py": FILES["recipes/rows.py"] + b"# x"}
    assert found(changed)[0] != found()[0]
    assert found({**FILES, "recipes/other.py": b""}) == found()


def test_code_that_is_no_python_crashed() -> None:
    with pytest.raises(InputError, match=r"recipes/rows\.py"):
        found({**FILES, "recipes/rows.py": b"def ("})
    with pytest.raises(InputError, match="does not exist"):
        closure("recipes.missing", FILES.get, below(FILES))


def test_circular_imports_never_ended() -> None:
    files = {"recipes/finetune.py": b"import recipes.rows", "recipes/rows.py": b"import recipes.finetune"}
    assert len(found(files)[0]) == 2


LOCK = b"""# made by uv
torch==2.13.0
peft==0.21.2 \\
    --hash=sha256:00
    # via llmops-assets (pyproject.toml)
numpy==1
    # via
    #   llmops-assets (pyproject.toml)
    #   peft
    #   torch
blas==2 ; sys_platform == 'win32' \\
    --hash=sha256:01
    # via numpy
blas==3
    # via numpy
PyYAML==6
idle==9
    # via another
"""


def test_a_new_version_of_a_package_was_not_seen() -> None:
    assert locked_versions(LOCK, {"torch", "json"}) == {"torch": "2.13.0", "numpy": "1", "blas": "2 3"}
    assert locked_versions(LOCK, {"yaml"}) == {"pyyaml": "6"}


def test_a_new_version_of_a_package_that_only_other_packages_import_was_not_seen() -> None:
    newer = LOCK.replace(b"blas==3", b"blas==4")
    assert locked_versions(newer, {"peft"}) != locked_versions(LOCK, {"peft"})
    assert locked_versions(LOCK.replace(b"idle==9", b"idle==10"), {"peft"}) == locked_versions(LOCK, {"peft"})


def test_an_import_that_the_lock_does_not_name_counted_as_nothing() -> None:
    unknown = locked_versions(LOCK, {"sklearn"})
    assert locked_versions(LOCK.replace(b"idle==9", b"idle==10"), {"sklearn"}) != unknown


def test_our_own_recipes_import_something_that_the_lock_does_not_name() -> None:
    lock = b"".join(Path("requirements", name).read_bytes() for name in ("run.lock", "torch.txt"))
    for recipe in Path("recipes").glob("*.py"):
        packages = closure(f"recipes.{recipe.stem}", _read, _below)[1]
        assert WHOLE_LOCK not in locked_versions(lock, packages), recipe


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if Path(path).is_file() else None


def _below(folder: str) -> list[str]:
    return [str(path) for path in Path(folder).rglob("*.py")]


def test_code_of_a_package_that_runs_on_import_was_left_out() -> None:
    files = {
        "recipes/finetune.py": b"from recipes.atlas.facts import f",
        "recipes/atlas/facts.py": b"",
        "recipes/atlas/__init__.py": b"import numpy",
        "recipes/__init__.py": b"",
    }
    reached, packages = found(files)
    assert set(reached) == set(files)
    assert packages == {"numpy"}


def test_a_template_beside_or_below_a_recipe_was_left_out_or_another_packages_was_counted() -> None:
    data = {
        **{"recipes/chat.jinja": b"a", "recipes/templates/deep/chat.txt": b"a"},
        **{"recipes/atlas/words.txt": b"", "recipes/README.md": b"", "recipes/rows.pyi": b"", "recipes/x.dvc": b""},
    }
    kept = {path for path in found({**FILES, **data})[0] if not path.endswith(".py")}
    assert kept == {"recipes/chat.jinja", "recipes/templates/deep/chat.txt"}
    reached = {**FILES, **data, "recipes/finetune.py": b"import recipes.atlas"}
    assert "recipes/atlas/words.txt" in found(reached)[0]


@pytest.mark.parametrize("line", [b"import common.words", b"from common import words", b"from common.words import x"])
@pytest.mark.parametrize("package", [{"common/__init__.py": b""}, {}])
def test_a_package_at_the_top_of_the_repository_counted_as_nothing(line: bytes, package: dict[str, bytes]) -> None:
    files = {**package, "recipes/finetune.py": line, "common/words.py": b"import one", "one.py": b"import numpy"}
    reached, packages = found({**files, "common/words.txt": b"", "words.txt": b""})
    assert set(reached) == {*files, "common/words.txt"} and packages == {"numpy"}


def test_a_folder_of_the_same_name_hid_an_installed_package() -> None:
    """Python prefers an installed package to a folder without an __init__.py."""
    files = {"recipes/finetune.py": b"import datasets.load", "datasets/rows.jsonl": b"", "datasets/make.py": b""}
    assert found(files) == (found({"recipes/finetune.py": b"import datasets.load"})[0], {"datasets"})


def test_a_module_was_taken_where_python_takes_the_package_of_that_name() -> None:
    files = {**FILES, "recipes/rows/__init__.py": b"import numpy"}
    assert "recipes/rows/__init__.py" in found(files)[0] and "recipes/rows.py" not in found(files)[0]
    assert "numpy" in found(files)[1]


def test_parsing_that_another_thread_spoilt_refused_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = ast.parse, []

    def parse(content: bytes) -> ast.Module:
        calls.append(content)
        if len(calls) % 3:
            raise SystemError("AST constructor recursion depth mismatch (before=36, after=100)")
        return real(content)

    monkeypatch.setattr(ast, "parse", parse)
    assert "recipes/rows.py" in found()[0]
