"""A release: one model at one revision, and what already exists for it.

Every run is pinned before its first asset does anything: to the revision its tag names, else to the head of the
environment's branch at that moment. All later steps of the run read the same pin from the ledger, so a commit made
meanwhile changes nothing for them.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache

from llmops_core.errors import InputError, Problem
from llmops_core.facts import Fact
from llmops_core.made_of import MadeOf, fingerprints_of, made_of
from llmops_core.model_spec import ModelSpec, load_model_spec
from llmops_core.plan import UPSTREAM, ModelInputs, ingredients, recipes_of
from llmops_core.promotion import current
from llmops_core.settings import Settings, load_settings
from llmops_core.touched import may_track
from llmops_core.training_spec import LocalSource
from resources.wiring import Platform

# Both are pure and take milliseconds; a tick asks for the same bytes again and again.
_parsed_settings = lru_cache(maxsize=64)(load_settings)
_parsed_spec = lru_cache(maxsize=4096)(load_model_spec)


@dataclass(frozen=True)
class Release:
    platform: Platform
    inputs: ModelInputs

    @property
    def model(self) -> str:
        return self.inputs.model

    @property
    def revision(self) -> str:
        return self.inputs.revision

    @property
    def spec(self) -> ModelSpec:
        return self.inputs.spec

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        return fingerprints_of(self.model, self.made_of)

    @cached_property
    def made_of(self) -> MadeOf:
        """What the fingerprints are made of."""
        return made_of(ingredients(self.inputs), UPSTREAM)

    @property
    def data_hash(self) -> str:
        """One hash of all data as DVC would give the folder: its listing's MD5 (or the folder's own)."""
        files = self.inputs.data
        if "" in files:
            return files[""]
        listing = [{"md5": md5, "relpath": name} for name, md5 in sorted(files.items())]
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"

    def evidence(self) -> dict[str, Fact]:
        """{stage: fact} of what exists now for these fingerprints; read anew at each call."""
        return current(self.platform.ledger.facts(self.model), self.fingerprints)


def head_of(platform: Platform) -> str:
    """The newest commit of the environment's branch; `HEAD` follows whatever branch is checked out."""
    branch = platform.branch
    return platform.source.head(None if branch == "HEAD" else branch)


def pinned_revision(platform: Platform, model: str, run_id: str, wanted: str | None, generation: int = 0) -> str:
    """The revision of a run: the same for every step of it, whatever was committed meanwhile. `generation` is the
    number of the request that it answers."""
    revision = platform.source.resolve(wanted or head_of(platform))
    body = {"revision": revision, "run_id": run_id, "repository": platform.repository, "generation": generation}
    fact = platform.ledger.append("pinned", model=model, subject="run", body=body, once=f"pinned:{model}:{run_id}")
    return str(fact.body["revision"])


def open_release(platform: Platform, model: str, revision: str) -> Release:
    """Reads all that a release depends on from the revision's Git objects. Raises InputError naming file and field."""
    spec = spec_at(platform, revision, model)
    production = _settings(platform, revision, platform.home.environment)
    staging = _settings(platform, revision, production.staging)
    inputs = ModelInputs(
        model=model,
        revision=revision,
        spec=spec,
        data=_data_hashes(platform, revision, spec.name, spec.data.path),
        weights_data=_weights_hashes(platform, revision, spec),
        code={recipe: platform.recipe_code.of(revision, recipe) for recipe in recipes_of(spec)},
        staging=staging,
        production=production,
    )
    return Release(platform, inputs)


def spec_at(platform: Platform, revision: str, model: str) -> ModelSpec:
    """The model's spec at a revision. Raises InputError for one that is invalid or has another name than its folder."""
    path = f"models/{model}/model.yaml"
    spec = _parsed_spec(_read(platform, revision, path), path, platform.settings.allowed_endpoints)
    if spec.name != model:
        raise InputError(Problem(path, "name", spec.name, model, "the name differs from the folder's"))
    return spec


def models_at(platform: Platform, revision: str) -> list[str]:
    """The names of all folders under models/ that hold a model.yaml."""
    paths = platform.source.files(revision, "models")
    return sorted({path.split("/")[1] for path in paths if path.count("/") == 2 and path.endswith("/model.yaml")})


def _settings(platform: Platform, revision: str, environment: str) -> Settings:
    path = f"config/{environment}.yaml"
    return _parsed_settings(_read(platform, revision, path), path)


def _read(platform: Platform, revision: str, path: str) -> bytes:
    content = platform.source.read(revision, path)
    if content is None:
        message = f"it is not in revision {revision[:12]}; commit it first"
        raise InputError(Problem(path, "", "no such file", "a file", message))
    return content


def ruling_files(platform: Platform, revision: str) -> set[str]:
    """The settings that hold for releases here: this environment's and its staging half's."""
    production = _settings(platform, revision, platform.home.environment)
    return {f"config/{name}.yaml" for name in (platform.home.environment, production.staging)}


def source_path(spec: ModelSpec) -> str | None:
    """The folder with weights that DVC tracks, for a source of that kind."""
    return spec.source.path if isinstance(spec.source, LocalSource) else None


def _weights_hashes(platform: Platform, revision: str, spec: ModelSpec) -> dict[str, str]:
    folder = source_path(spec)
    found = _data_hashes(platform, revision, spec.name, folder, "source.path") if folder else {}
    return {f"{folder}/{name}".rstrip("/"): md5 for name, md5 in found.items()}


def _data_hashes(
    platform: Platform, revision: str, model: str, folder: str, field: str = "data.path"
) -> dict[str, str]:
    """{file below the folder: hash} of every output DVC tracks there; "" is the folder itself, tracked as one."""
    survey = platform.data.survey(revision)
    if broken := [problem for problem in survey.problems if may_track(problem.file, folder)]:
        raise InputError(*broken)
    tracked = survey.pointers
    inside = {path: pointer for path, pointer in tracked.items() if path == folder or path.startswith(folder + "/")}
    if not inside:
        expected = "a folder that a .dvc file or dvc.lock tracks"
        message = f"DVC tracks nothing there at {revision[:12]}; run `dvc add {folder}` or `dvc repro`, and commit"
        raise InputError(Problem(f"models/{model}/model.yaml", field, folder, expected, message))
    return {path[len(folder) + 1 :]: pointer.md5 for path, pointer in inside.items()}
