"""The dataset that arriving rows are judged beside, at the newest commit, and what a reviewer is told of them."""

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops_assets.release import head_of, spec_at
from llmops_core.arrival_settings import WatchedPlace
from llmops_core.arrivals import LONGEST_TEXT, PROBLEMS_SHOWN, Judged
from llmops_core.dataset_rows import Problems, parse_rows
from llmops_core.dvc_files import locate
from llmops_core.errors import InputError, Problem
from llmops_core.feedback import KnownRows, known_rows
from llmops_core.model_spec import ModelSpec
from resources.wiring import Platform


@dataclass(frozen=True)
class Dataset:
    """A model's data at one revision: its files by name below data.path, and the .dvc file that tracks the target."""

    revision: str
    spec: ModelSpec
    path: str
    declared_in: str | None
    present: bytes
    known: KnownRows


def dataset_now(platform: Platform, watched: WatchedPlace) -> Dataset:
    """The model's data at the newest commit. Raises InputError where it cannot take rows."""
    head = head_of(platform)
    spec = spec_at(platform, head, watched.model)
    folder, path = spec.data.path, f"{spec.data.path}/{watched.into}"
    tracked = platform.data.tracked(head)
    found = locate(tracked, path)
    declared_in = found[0].declared_in if found else None
    if declared_in and not declared_in.endswith(".dvc"):
        message = "a DVC stage makes it, and would make it again without these rows; name another file"
        raise InputError(
            Problem(_config(platform), f"arrivals {watched.name}: into", path, "a file that no stage makes", message)
        )
    present: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(dir=platform.home.folder("work")) as scratch:
        for number, output in enumerate(sorted(p for p in tracked if p == folder or p.startswith(f"{folder}/"))):
            fetched = platform.data.fetch(head, output, Path(scratch) / str(number))
            for file in fetched.files:
                name = f"{output}/{file.path}" if fetched.pointer.is_dir else output
                if name.endswith(".jsonl"):
                    present[name.removeprefix(f"{folder}/")] = (fetched.folder / file.path).read_bytes()
    known = _known(present, spec.learnt_from | {watched.into}, folder)
    return Dataset(head, spec, path, declared_in, present.get(watched.into, b""), known)


def sharing(platform: Platform, watched: WatchedPlace) -> list[str]:
    """The models whose places write into the same file: this one's, and others' with the same data.path. A model that
    cannot be read takes no rows, and shares nothing."""
    others = {place.model for place in platform.settings.arrivals if place.into == watched.into} - {watched.model}
    if not others:
        return [watched.model]
    head = head_of(platform)
    folder = _folder(platform, head, watched.model)
    return [watched.model, *sorted(name for name in others if folder and _folder(platform, head, name) == folder)]


def _folder(platform: Platform, head: str, model: str) -> str:
    try:
        return spec_at(platform, head, model).data.path
    except InputError:
        return ""


def _known(present: Mapping[str, bytes], learnt_from: Collection[str], folder: str) -> KnownRows:
    problems = Problems(PROBLEMS_SHOWN)
    rows = {
        name: parse_rows(f"{folder}/{name}", content.splitlines(), LONGEST_TEXT, problems)
        for name, content in sorted(present.items())
    }
    if found := problems.all():
        raise InputError(*found)
    return known_rows(((name, [row.values for row in several]) for name, several in rows.items()), learnt_from)


def _config(platform: Platform) -> str:
    return f"config/{platform.settings.name}.yaml"


def message_of(watched: WatchedPlace, dataset: Dataset, judged: Judged, digest: str) -> str:
    """What a reviewer must know: whence, which files, which rows, and whether anything is trained on them."""
    rows = len(judged.rows)
    lines = [f"Add {rows} {'row' if rows == 1 else 'rows'} from {watched.name} to {dataset.path}", ""]
    lines += [f"Source: {watched.place}", f"Model: {watched.model}", f"Batch: {digest}", ""]
    lines += [f"- {file.name}: {file.new} new of {file.rows} rows, sha256 {file.sha256}" for file in judged.taken]
    lines += ["", *_readers(dataset.spec, watched.into)]
    if judged.personal_data:
        lines.append(f"The rows hold personal data in {judged.personal_data} places, which data.pii: report lets pass.")
    return "\n".join([*lines, ""])


def _readers(spec: ModelSpec, into: str) -> list[str]:
    """Sentences on what the file is for at this commit."""
    suites = [suite.name for suite in spec.evaluation.suites if suite.data == into]
    asked = [f"The evaluation asks its questions: {', '.join(suites)}."] if suites else []
    if into in spec.learnt_from:
        return ["The model learns from this file.", *asked]
    where = f"models/{spec.name}/model.yaml"
    return [f"Training does not read this file: name it under training.train in {where} for that.", *asked]
