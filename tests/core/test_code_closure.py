"""Code that a recipe reaches must count, code that it does not reach must not."""

import pytest

from llmops_core.code_closure import closure, locked_versions
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
    return closure("recipes.finetune", files.get)


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
        closure("recipes.missing", FILES.get)


def test_circular_imports_never_ended() -> None:
    files = {"recipes/finetune.py": b"import recipes.rows", "recipes/rows.py": b"import recipes.finetune"}
    assert len(found(files)[0]) == 2


def test_a_new_version_of_a_package_was_not_seen() -> None:
    lock = b"torch==2.13.0\npeft==0.21.2 \\\n    --hash=sha256:00\nnumpy==1\nPy_Yaml==6\n"
    assert locked_versions(lock, {"torch", "peft", "py-yaml", "json"}) == {
        "torch": "2.13.0",
        "peft": "0.21.2",
        "py-yaml": "6",
    }
