"""Which models a change can touch at all, told from paths alone, before any of their files is read.

A model depends on its own folder, the data it names, the settings that rule here, and the code and lock of recipes,
which may import from anywhere in the repository.
Whatever else changed (a README, another model, other data) touches none. This only narrows down: fingerprints decide.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

from llmops_core.code_closure import may_be_code
from llmops_core.errors import InputError
from llmops_core.strict_yaml import load

LOCKS = ("requirements/run.lock", "requirements/torch.txt")


def touched(
    changed: Collection[str], moved: Collection[str], reads: Mapping[str, Collection[str]], rules: Collection[str]
) -> set[str]:
    """Names of models.

    `changed`: paths of all changed files. `moved`: DVC outputs whose content changed. `reads`: {model: paths of DVC
    outputs, or of folders around or inside them, that it uses}. `rules`: the settings files that hold here.
    """
    if any(path in rules or path in LOCKS or may_be_code(path) for path in changed):
        return set(reads) | _named(changed)
    return _named(changed) | {model for model, paths in reads.items() if _overlap(paths, moved)}


def is_model_yaml(path: str) -> bool:
    return re.fullmatch(r"models/[^/]+/model\.yaml", path) is not None


def data_paths(content: bytes, file: str) -> frozenset[str]:
    """What a model.yaml says it reads from DVC: data.path and source.path. Nothing of one that cannot be read: such a
    model is judged when its own file changes."""
    try:
        document = load(content, file).mapping
    except InputError:
        return frozenset()
    sections = (document.get(name) for name in ("data", "source"))
    named = (cast("dict[str, Any]", section).get("path") for section in sections if isinstance(section, dict))
    return frozenset(path.rstrip("/") for path in named if isinstance(path, str) and path)


def may_track(file: str, folder: str) -> bool:
    """Whether a .dvc file or dvc.lock could declare something in this folder, or a folder around it. One that cannot be
    read may."""
    place = file.removesuffix(".dvc") if file.endswith(".dvc") else file.rpartition("/")[0]
    return not place or _inside(place, folder) or _inside(folder, place)


def _named(changed: Collection[str]) -> set[str]:
    """Models whose own folder changed: models/<name>/…"""
    parts = (path.split("/") for path in changed if path.startswith("models/"))
    return {part[1] for part in parts if len(part) > 2}


def _overlap(paths: Collection[str], moved: Collection[str]) -> bool:
    return any(_inside(path, other) or _inside(other, path) for path in paths for other in moved)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
