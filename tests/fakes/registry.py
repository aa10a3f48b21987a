"""A registry that remembers in memory, with the answers of the real door."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.registration import IDENTITY, SIGNATURE_TAG, TAG_PREFIX
from resources.registry.model_registry import (
    ModelRegistry,
    RegisteredVersion,
    RegistrationRequest,
    RunStatus,
    check_files,
    check_model,
    fingerprint_in,
)

URI = "llmops.artifact_uri"


@dataclass
class FakeRun:
    model: str
    name: str
    tags: dict[str, str]
    status: str = "RUNNING"
    metrics: dict[str, set[tuple[int, float]]] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class FakeRegistry(ModelRegistry):
    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.registered: dict[str, list[RegisteredVersion]] = {}
        self.aliases: dict[tuple[str, str], int] = {}

    def open_run(self, model: str, name: str, tags: Mapping[str, str]) -> str:
        check_model(model)
        run_id = f"{model}-{fingerprint_in(tags)[:16]}"
        self.runs.setdefault(run_id, FakeRun(model, name, dict(tags))).status = "RUNNING"
        return run_id

    def log(
        self,
        run_id: str,
        metrics: Mapping[str, Sequence[tuple[int, float]]],
        params: Mapping[str, object],
        files: Mapping[str, Path],
    ) -> None:
        check_files(files)
        run = self._run(run_id)
        for name, value in params.items():
            if run.params.setdefault(name, str(value)) != str(value):
                raise IntegrityError(f"run {run_id} has another {name}: its fingerprint is not unique")
        for name, curve in metrics.items():
            run.metrics.setdefault(name, set()).update(curve)
        run.files |= {name: file.read_bytes() for name, file in files.items()}

    def close_run(self, run_id: str, status: RunStatus) -> None:
        self._run(run_id).status = status

    def register(self, request: RegistrationRequest) -> RegisteredVersion:
        check_files(request.evidence)
        self._run(request.run_id)
        facts = request.facts
        made = self.registered.setdefault(facts.model, [])
        for version in made:
            if all(version.tags[f"{TAG_PREFIX}{name}"] == getattr(facts, name) for name in IDENTITY):
                return version
        tags = {**facts.tags(), SIGNATURE_TAG: request.signature, URI: request.artifact_uri}
        made.append(RegisteredVersion(facts.model, len(made) + 1, request.run_id, tags, request.description))
        return made[-1]

    def version(self, model: str, version: int) -> RegisteredVersion | None:
        return next((v for v in self.versions(model) if v.version == version), None)

    def versions(self, model: str) -> list[RegisteredVersion]:
        check_model(model)
        return list(self.registered.get(model, []))

    def set_alias(self, model: str, alias: str, version: int) -> None:
        self._existing(model, version)
        self.aliases[model, alias] = version

    def alias(self, model: str, alias: str) -> int | None:
        check_model(model)
        return self.aliases.get((model, alias))

    def remove_alias(self, model: str, alias: str) -> None:
        check_model(model)
        self.aliases.pop((model, alias), None)

    def set_tag(self, model: str, version: int, tag: str, value: str) -> None:
        found = self._existing(model, version)
        self.registered[model][version - 1] = replace(found, tags={**found.tags, tag: value})

    def link(self, model: str, version: int) -> str:
        return f"http://registry.example.com/#/models/{model}/versions/{version}"

    def run_link(self, run_id: str) -> str:
        return f"http://registry.example.com/#/experiments/{self._run(run_id).model}/runs/{run_id}"

    def export_to(self, folder: Path) -> None:
        (folder / "registry.pickle").write_bytes(pickle.dumps((self.runs, self.registered, self.aliases)))

    def import_from(self, folder: Path, artifact_uri: Callable[[str], str]) -> None:
        runs, registered, aliases = pickle.loads((folder / "registry.pickle").read_bytes())
        for model, versions in registered.items():
            here = self.registered.get(model, [])
            moved = [replace(v, tags={**v.tags, URI: artifact_uri(v.tags[URI])}) for v in versions]
            if here and here != moved:
                raise InputError(Problem("registry", model, "another version", "none", "it was made here"))
            self.registered[model] = moved
        self.runs.update(runs)
        self.aliases.update(aliases)

    def _run(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise InputError(Problem("registry", "run", run_id, "a run", "there is no such run"))
        return self.runs[run_id]

    def _existing(self, model: str, version: int) -> RegisteredVersion:
        found = self.version(model, version)
        if found is None:
            raise InputError(Problem("registry", model, str(version), "a version", "there is no such version"))
        return found
