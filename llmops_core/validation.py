"""All that is wrong with a tree's inputs, at once; and what an environment lacks to run a model.

Pure: the caller reads the files, from a folder or from a commit. Each file is judged by its own schema first. Then
come the rules between files, judged on whatever could be read: names and folders, dependencies, data that DVC tracks.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

from llmops_core import uris
from llmops_core.approval_files import approval_problems, named_by
from llmops_core.dvc_files import parse_dvc_file, parse_dvc_lock, stage_wdirs
from llmops_core.errors import InputError, Problem
from llmops_core.model_spec import LIMIT_DEPENDENCIES, ModelSpec, judge_model_spec
from llmops_core.problems import at_line
from llmops_core.serving_settings import ClusterServingPlace
from llmops_core.settings import Settings, allowed_by, judge_settings
from llmops_core.strict_yaml import Document, load
from llmops_core.training_spec import HuggingFaceSource, LocalSource, S3Source

LIMIT_CIRCLES = 20
PLAIN_FILE = "a plain file"
_MODEL_FOLDER = re.compile(r"models/(?P<folder>[^/]+)/.+")
_MODEL_FILE = re.compile(r"models/(?P<folder>[^/]+)/model\.yaml")
_SETTINGS_FILE = re.compile(r"config/(?P<stem>[^/]+)\.yaml")
_MISNAMED = re.compile(r"models/[^/]+/model\.(yml|json|YAML|YML)|config/[^/]+\.(yml|YAML|YML)")


def validate(
    files: Mapping[str, bytes],
    is_tracked: Callable[[str], bool] | None = None,
    others: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Every problem of all models/*/model.yaml and config/*.yaml among `files`, sorted by file and field.

    `files` maps repository-relative paths to bytes; other files are ignored, but for DVC's own (`*.dvc`, `dvc.lock`,
    `dvc.yaml`): what they track decides whether a model has data, unless `is_tracked` is given to decide it; and for
    `trusted_files`. `others` says what else stands below models/, and in place of a file that could not be read:
    {path: PLAIN_FILE, "a folder", "a symbolic link", …}.
    """
    standing = {**(others or {}), **dict.fromkeys(files, PLAIN_FILE)}
    problems = [*_nothing(standing), *(_misnamed(file) for file in standing if _MISNAMED.fullmatch(file))]
    problems += _no_model(standing)
    if is_tracked is None:
        is_tracked = _tracked(files, problems)
    settings = _read_all(files, _SETTINGS_FILE, problems)
    models = _read_all(files, _MODEL_FILE, problems)
    problems += _settings_problems(settings, standing)
    problems += approval_problems(settings, files, standing)
    allowed = frozenset[str]().union(*(allowed_by(document) for document in settings.values()))
    folders = _model_folders(standing)
    for folder, document in models.items():
        problems += _model_problems(folder, document, allowed, folders, is_tracked)
    problems += _cycles(models)
    return sorted(problems, key=lambda problem: (problem.file, problem.field, problem.message))


def trusted_files(files: Mapping[str, bytes]) -> set[str]:
    """The paths that the settings among `files` name under approvals; `validate` judges what stands there."""
    return {path for document in _read_all(files, _SETTINGS_FILE, []).values() for path in named_by(document).values()}


def lacks(spec: ModelSpec, settings: Settings) -> list[str]:
    """What this environment lacks to train and serve this model, as sentences; empty where nothing is missing."""
    return [*_lacking_hardware(spec, settings), *_lacking_services(spec, settings)]


def _lacking_hardware(spec: ModelSpec, settings: Settings) -> Iterator[str]:
    needs, has, name = spec.resources, settings.capacity, settings.name
    if needs.gpu_count > has.gpu_count:
        yield f"it needs {needs.gpu_count} GPU(s), and {name} has {has.gpu_count or 'none'}"
    elif needs.gpu_count and needs.gpu_type not in (None, has.gpu_type):
        yield f"it needs GPUs of type {needs.gpu_type}, and those of {name} are {has.gpu_type}"
    memory_gb = needs.memory_gb * settings.memory_factor
    if memory_gb > has.memory_gb:
        yield f"it needs {memory_gb:g} GB of memory, and {name} gives a replica {has.memory_gb:g} GB"
    if needs.cpu > has.cpu:
        yield f"it needs {needs.cpu:g} processor cores, and {name} gives a replica {has.cpu:g}"


def _lacking_services(spec: ModelSpec, settings: Settings) -> Iterator[str]:
    if spec.serving.engine == "vllm" and settings.serving.kind != "kubernetes":
        yield f"its engine, vllm, is served on a Kubernetes cluster, and {settings.name} has none"
    place = settings.serving
    if spec.serving.engine == "vllm" and isinstance(place, ClusterServingPlace) and place.vllm_image is None:
        yield f"its engine is vllm, and {settings.name} names no image of it (serving.vllm_image)"
    endpoint = spec.source.endpoint if isinstance(spec.source, (HuggingFaceSource, S3Source)) else None
    if endpoint is not None:
        try:
            uris.check_endpoint(endpoint, settings.allowed_endpoints)
        except uris.UnsafeUri as error:
            yield f"its source's endpoint {endpoint} is refused in {settings.name}: {error}"


def _nothing(standing: Collection[str]) -> Iterator[Problem]:
    if not any(p.fullmatch(path) for path in standing for p in (_MODEL_FOLDER, _SETTINGS_FILE, _MISNAMED)):
        message = "nothing to validate: no models/*/model.yaml and no config/*.yaml; add one, or look elsewhere"
        yield Problem(".", "", "neither", "a model or an environment", message)


def _model_folders(standing: Collection[str]) -> set[str]:
    """Every folder under models/ that holds anything: each has a readable model.yaml or a problem of its own."""
    return {match["folder"] for path in standing if (match := _MODEL_FOLDER.fullmatch(path))}


def _no_model(standing: Mapping[str, str]) -> Iterator[Problem]:
    """Folders without a model.yaml that can be read. One with a misnamed file is left out: that is its problem."""
    misnamed = {path.split("/")[1] for path in standing if _MISNAMED.fullmatch(path)}
    for folder in _model_folders(standing):
        file = f"models/{folder}/model.yaml"
        found = standing.get(file, "nothing")
        if found != PLAIN_FILE and (found != "nothing" or folder not in misnamed):
            message = "without it the folder is no model, and would be ignored; write it, or move the folder elsewhere"
            yield Problem(file, "", found, PLAIN_FILE, message)


def _misnamed(file: str) -> Problem:
    message = "the file has another name than the platform reads, and would be ignored; rename it"
    return Problem(file, "", file.rsplit("/", 1)[-1], "a name that ends in .yaml", message)


def _read_all(files: Mapping[str, bytes], pattern: re.Pattern[str], problems: list[Problem]) -> dict[str, Document]:
    """{folder or stem: document} of the files that could be read at all; the others' problems are added."""
    found: dict[str, Document] = {}
    for file in sorted(files):
        if match := pattern.fullmatch(file):
            try:
                found[match[1]] = load(files[file], file)
            except InputError as error:
                problems += error.problems
    return found


def _tracked(files: Mapping[str, bytes], problems: list[Problem]) -> Callable[[str], bool]:
    """Whether DVC pins a path, a folder around it, or something inside it. Problems of DVC's files are added."""
    outs: set[str] = set()
    for file in sorted(files):
        folder, _, name = file.rpartition("/")
        try:
            if name == "dvc.lock":
                pipeline = f"{folder}/dvc.yaml" if folder else "dvc.yaml"
                wdirs = stage_wdirs(files.get(pipeline, b""), pipeline)
                outs.update(pointer.path for pointer in parse_dvc_lock(files[file], file, wdirs))
            elif name.endswith(".dvc") and name != ".dvc":
                outs.update(pointer.path for pointer in parse_dvc_file(files[file], file))
        except InputError as error:
            problems += error.problems
    return lambda path: any(_same_or_inside(path, out) or _same_or_inside(out, path) for out in outs)


def _same_or_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _settings_problems(settings: Mapping[str, Document], standing: Collection[str]) -> Iterator[Problem]:
    models = _model_folders(standing)
    for stem, document in settings.items():
        file = f"config/{stem}.yaml"
        yield from judge_settings(document, file)[1]
        yield from _name_problem(document, file, stem, "the file's name without .yaml")
        staging = document.mapping.get("staging")
        if isinstance(staging, str) and f"config/{staging}.yaml" not in standing:
            message = f"there is no config/{staging}.yaml; add it or name another"
            yield at_line(document, file, ("staging",), staging, "the name of an environment", message)
        for index, model in enumerate(_models_of_arrivals(document)):
            if model is not None and model not in models:
                message = f"there is no models/{model}/model.yaml to take rows for; add it or name another"
                yield at_line(document, file, ("arrivals", index, "model"), model, "the name of a model here", message)


def _models_of_arrivals(document: Document) -> list[str | None]:
    """The model of each watched place, None for those that name none."""
    given: Any = document.mapping.get("arrivals")
    places = cast(list[Any], given) if isinstance(given, list) else []
    named = (cast(dict[str, Any], place).get("model") if isinstance(place, dict) else None for place in places)
    return [model if isinstance(model, str) else None for model in named]


def _name_problem(document: Document, file: str, wanted: str, what: str) -> Iterator[Problem]:
    name = document.mapping.get("name")
    if isinstance(name, str) and name != wanted:
        yield at_line(document, file, ("name",), name, wanted, f"the name must be {what}; change one of the two")


def _model_problems(
    folder: str,
    document: Document,
    allowed: Collection[str],
    folders: Collection[str],
    is_tracked: Callable[[str], bool],
) -> Iterator[Problem]:
    file = f"models/{folder}/model.yaml"
    spec, problems = judge_model_spec(document, file, allowed)
    yield from problems
    yield from _name_problem(document, file, folder, "that of its folder")
    for index, other in enumerate(_dependencies(document)):
        if other is not None and other != folder and other not in folders:
            message = f"there is no models/{other}/model.yaml; add it or remove the entry"
            yield at_line(document, file, ("depends_on", index), other, "the name of a model here", message)
    if spec is not None:
        yield from _untracked(spec, document, file, is_tracked)


def _untracked(spec: ModelSpec, document: Document, file: str, is_tracked: Callable[[str], bool]) -> Iterator[Problem]:
    paths = {("data", "path"): spec.data.path}
    if isinstance(spec.source, LocalSource) and spec.source.path is not None:
        paths[("source", "path")] = spec.source.path
    for location, path in paths.items():
        if not is_tracked(path):
            expected = "a path that a .dvc file or dvc.lock pins"
            message = f"DVC tracks nothing there; run `dvc add {path}` or `dvc repro`, and commit the pointer"
            yield at_line(document, file, location, path, expected, message)
    if is_tracked(spec.data.path):
        for location, name in _named_files(spec):
            if not is_tracked(f"{spec.data.path}/{name}"):
                message = f"DVC tracks no such file in {spec.data.path}; name one that is there, or add it and commit"
                yield at_line(document, file, location, name, "a file that DVC tracks", message)


def _named_files(spec: ModelSpec) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(field, file below data.path) of every file that the spec names."""
    one = isinstance(spec.training.train, str)
    yield from ((("training", "train", *(() if one else (i,))), name) for i, name in enumerate(spec.training.files))
    if isinstance(spec.source, LocalSource) and spec.source.pretrain is not None:
        yield ("source", "pretrain", "data"), spec.source.pretrain.data
    yield from ((("evaluation", "suites", i, "data"), suite.data) for i, suite in enumerate(spec.evaluation.suites))


def _dependencies(document: Document) -> list[str | None]:
    """The entries of depends_on in their places, as many as are allowed, None for those that are no text."""
    given: Any = document.mapping.get("depends_on")
    entries = cast(list[Any], given) if isinstance(given, list) else []
    return [entry if isinstance(entry, str) else None for entry in entries[:LIMIT_DEPENDENCIES]]


def _cycles(models: Mapping[str, Document]) -> Iterator[Problem]:
    """One problem for each circle of dependencies, at an entry that closes it; it is left out to find the next."""
    graph = {name: {d for d in _dependencies(models[name]) if d in models and d != name} for name in models}
    for _ in range(LIMIT_CIRCLES):
        if (cycle := _cycle_in(graph)) is None:
            return
        members = cycle[:-1]
        start = members.index(min(members))
        circle = [*members[start:], *members[:start]]
        waiting, waited_for = circle[0], circle[1]
        graph[waiting].discard(waited_for)
        document = models[waiting]
        location = ("depends_on", _dependencies(document).index(waited_for))
        message = f"these models wait for each other: {' -> '.join([*circle, waiting])}; remove one dependency"
        file = f"models/{waiting}/model.yaml"
        yield at_line(document, file, location, waited_for, "no circle of dependencies", message)


def _cycle_in(graph: Mapping[str, Collection[str | None]]) -> list[str] | None:
    """A circle a -> b -> … -> a in which each depends on the next, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib names each before the one that depends on it
    return None
