"""The registry on MLflow 3: an experiment per model, a run per fingerprint, a logged model and a version per result.

MLflow creates without asking whether it exists, so every step here first looks, then creates, then looks again and
takes the oldest: two processes that race agree on one, and a process killed between two calls is continued by the next.
A *logged model* is the entry that MLflow's pages show with the evaluation's figures; the version points to it.

`import mlflow` takes seconds and happens on first use only.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.registration import VersionFacts
from llmops_core.showing import shown
from resources.registry.mlflow_entries import (
    ARTIFACT_TAG,
    CARD,
    LOGGED_MODEL_TAG,
    MOVED_FROM_TAG,
    as_version,
    gathered,
    identity_query,
    new_params,
    shortened,
    tags_of,
)
from resources.registry.mlflow_errors import mlflow_errors, or_none, refuse_damaged, unless_there
from resources.registry.model_registry import (
    ModelRegistry,
    RegisteredVersion,
    RegistrationRequest,
    RunStatus,
    check_files,
    check_model,
    fingerprint_in,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, LoggedModel, Run

__all__ = ["MlflowRegistry", "ModelRegistry", "RegisteredVersion", "RegistrationRequest", "RunStatus"]

_METRICS_PER_CALL = 900  # with 100 parameters this is MLflow's limit of 1000 entities
_PARAMS_PER_CALL = 100
_SCHEMES = ("sqlite", "postgresql", "http", "https")


class MlflowRegistry(ModelRegistry):
    """`tracking_uri` is a server's address or a database's.

    `artifact_root` is a URI under which new experiments keep their files: by default the server's choice, or a folder
    beside an SQLite database. `ui_url` is the server whose pages `link` points to, by default `tracking_uri`.
    """

    def __init__(self, tracking_uri: str, artifact_root: str | None = None, ui_url: str | None = None) -> None:
        scheme = urlsplit(tracking_uri).scheme.split("+")[0]
        if scheme not in _SCHEMES:
            expected = "an address (http, https) or a database (sqlite, postgresql)"
            raise InputError(
                Problem("registry", "url", shown(tracking_uri, "url"), expected, "MLflow cannot keep a registry there")
            )
        if artifact_root is None and scheme == "sqlite":
            artifact_root = Path(tracking_uri.removeprefix("sqlite:///")).resolve().with_name("artifacts").as_uri()
        self._uri, self._artifact_root, self._ui = tracking_uri, artifact_root, (ui_url or tracking_uri).rstrip("/")
        # MLflow reads these from nowhere else, some of them when it is imported
        os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false")
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # standard output belongs to `--json`
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # MLflow's own 7 hang for four minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

    @cached_property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        refuse_damaged(self._uri)
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @contextmanager
    def _asked(self, doing: str) -> "Iterator[MlflowClient]":
        with mlflow_errors(doing):
            yield self._client

    def open_run(self, model: str, name: str, tags: Mapping[str, str]) -> str:
        check_model(model)
        query = f"tags.`llmops.fingerprint` = '{fingerprint_in(tags)}'"
        with self._asked(f"opening a run of {model}") as client:
            experiment = self._experiment(model)
            run = self._oldest_run(experiment, query)
            if run is None:
                commit = {"mlflow.source.git.commit": tags["llmops.revision"]} if "llmops.revision" in tags else {}
                client.create_run(experiment.experiment_id, run_name=name, tags={**tags, **commit})
                run = self._oldest_run(experiment, query)
            if run is None:
                raise IntegrityError(f"the registry lost the run of {model} that it had just begun")
            if run.info.status in ("FAILED", "KILLED"):
                client.update_run(run.info.run_id, status="RUNNING")
            return run.info.run_id

    def log(
        self,
        run_id: str,
        metrics: Mapping[str, Sequence[tuple[int, float]]],
        params: Mapping[str, object],
        files: Mapping[str, Path],
    ) -> None:
        from mlflow.entities import Metric, Param

        check_files(files)
        with self._asked(f"logging to run {run_id}") as client:
            run = self._run(run_id)
            run_id = run.info.run_id
            # The same time on every attempt, so that MLflow recognises what it already has
            begun = int(run.info.start_time)
            points = [Metric(n, float(v), begun + step, step) for n, curve in metrics.items() for step, v in curve]
            settings = [Param(name, text) for name, text in new_params(run, params).items()]
            while points or settings:
                client.log_batch(run_id, points[:_METRICS_PER_CALL], settings[:_PARAMS_PER_CALL])
                points, settings = points[_METRICS_PER_CALL:], settings[_PARAMS_PER_CALL:]
            if files:
                with gathered(files) as folder:
                    client.log_artifacts(run_id, folder)

    def close_run(self, run_id: str, status: RunStatus) -> None:
        with self._asked(f"closing run {run_id}") as client:
            client.set_terminated(self._run(run_id).info.run_id, status)

    def register(self, request: RegistrationRequest) -> RegisteredVersion:
        facts = request.facts
        check_files(request.evidence)
        with self._asked(f"registering {facts.model}") as client:
            existing = self._registered(facts)
            if existing is not None:
                return existing
            run = self._run(request.run_id)
            request = replace(request, run_id=run.info.run_id)
            entry = self._logged_model(request, run)
            self._log_figures(request, run, entry)
            self._keep_evidence(request, entry)
            client.finalize_logged_model(entry.model_id, "READY")
            unless_there(lambda: client.create_registered_model(facts.model))
            client.create_model_version(
                facts.model,
                source=entry.artifact_location,
                run_id=request.run_id,
                model_id=entry.model_id,
                tags={**tags_of(request), LOGGED_MODEL_TAG: entry.model_id},
                description=shortened(request.description),
                await_creation_for=0,  # the store answers when it has it; MLflow would print that it waits
            )
            made = self._registered(facts)
        if made is None:
            raise IntegrityError(f"the registry lost the version of {facts.model} that it had just made")
        return made

    def version(self, model: str, version: int) -> RegisteredVersion | None:
        check_model(model)
        with self._asked(f"reading version {version} of {model}") as client:
            found = or_none(lambda: client.get_model_version(model, str(version)))
        return None if found is None else as_version(found)

    def versions(self, model: str) -> list[RegisteredVersion]:
        check_model(model)
        with self._asked(f"listing the versions of {model}"):
            return self._search(f"name = '{model}'")

    def set_alias(self, model: str, alias: str, version: int) -> None:
        check_model(model)
        with self._asked(f"pointing {alias} of {model} to version {version}") as client:
            client.set_registered_model_alias(model, alias, str(version))

    def alias(self, model: str, alias: str) -> int | None:
        check_model(model)
        with self._asked(f"reading {alias} of {model}") as client:
            found = or_none(lambda: client.get_registered_model(model))
        version = None if found is None else found.aliases.get(alias)
        return None if version is None else int(version)

    def remove_alias(self, model: str, alias: str) -> None:
        if self.alias(model, alias) is None:
            return
        with self._asked(f"taking {alias} away from {model}") as client:
            client.delete_registered_model_alias(model, alias)

    def set_tag(self, model: str, version: int, tag: str, value: str) -> None:
        check_model(model)
        with self._asked(f"tagging version {version} of {model}") as client:
            client.set_model_version_tag(model, str(version), tag, value)

    def link(self, model: str, version: int) -> str:
        return f"{self._ui}/#/models/{quote(model, safe='')}/versions/{version}"

    def run_link(self, run_id: str) -> str:
        with self._asked(f"reading run {run_id}"):
            info = self._run(run_id).info
        return f"{self._ui}/#/experiments/{info.experiment_id}/runs/{info.run_id}"

    def export_to(self, folder: Path) -> None:
        from resources.registry.registry_export import written_out

        with self._asked("writing the registry out") as client:
            written_out(client, self._uri, folder)

    def import_from(self, folder: Path, artifact_uri: Callable[[str], str]) -> None:
        from resources.registry.registry_import import RegistryImport

        def tag_value(tag: str, value: str) -> str:
            return artifact_uri(value) if tag == ARTIFACT_TAG else value

        def experiment(name: str) -> str:
            return self._experiment(name).experiment_id

        with self._asked("taking a registry in") as client:
            RegistryImport(client, folder, experiment, tag_value).run()

    def _run(self, run_id: str) -> "Run":
        """The run of this id, or the one that had it before it was moved here."""
        found = or_none(lambda: self._client.get_run(run_id))
        if found is None:
            ids = [each.experiment_id for each in self._client.search_experiments()]
            moved = self._client.search_runs(ids, f"tags.`{MOVED_FROM_TAG}` = '{run_id}'")
            found = moved[0] if moved else self._client.get_run(run_id)
        return found

    def _experiment(self, model: str) -> "Experiment":
        experiment = self._client.get_experiment_by_name(model)
        if experiment is None:
            place = None if self._artifact_root is None else f"{self._artifact_root}/{model}"
            unless_there(lambda: self._client.create_experiment(model, artifact_location=place))
            experiment = self._client.get_experiment_by_name(model)
        if experiment is None:
            raise IntegrityError(f"the registry lost the experiment {model} that it had just made")
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        return experiment

    def _oldest_run(self, experiment: "Experiment", query: str) -> "Run | None":
        runs = self._client.search_runs([experiment.experiment_id], query)
        return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)

    def _logged_model(self, request: RegistrationRequest, run: "Run") -> "LoggedModel":
        facts, experiment = request.facts, run.info.experiment_id
        entry = self._oldest_entry(experiment, facts)
        if entry is None:
            name = facts.model.replace(".", "_")  # MLflow forbids dots here, and names of models hold no underscores
            self._client.create_logged_model(experiment, name, request.run_id, tags_of(request), model_type="llm")
            entry = self._oldest_entry(experiment, facts)
        if entry is None:
            raise IntegrityError(f"the registry lost the logged model of {facts.model} that it had just made")
        return entry

    def _oldest_entry(self, experiment: str, facts: VersionFacts) -> "LoggedModel | None":
        found = self._client.search_logged_models([experiment], identity_query(facts))
        return min(found, key=lambda entry: (entry.creation_timestamp, entry.model_id), default=None)

    def _log_figures(self, request: RegistrationRequest, run: "Run", entry: "LoggedModel") -> None:
        from mlflow.entities import Metric

        begun = int(run.info.start_time)
        figures = [
            Metric(name, float(value), begun, 0, model_id=entry.model_id, run_id=request.run_id)
            for name, value in request.metrics.items()
        ]
        if figures:
            self._client.log_batch(request.run_id, figures)

    def _keep_evidence(self, request: RegistrationRequest, entry: "LoggedModel") -> None:
        with tempfile.TemporaryDirectory() as folder:
            card = Path(folder, CARD)
            card.write_text(request.description, encoding="utf-8")
            with gathered({**request.evidence, CARD: card}) as shown:
                self._client.log_model_artifacts(entry.model_id, shown)

    def _registered(self, facts: VersionFacts) -> RegisteredVersion | None:
        """The oldest version with this identity."""
        found = self._search(f"name = '{facts.model}' AND {identity_query(facts)}")
        return found[0] if found else None

    def _search(self, query: str) -> list[RegisteredVersion]:
        found = [as_version(version) for version in self._client.search_model_versions(query)]
        return sorted(found, key=lambda version: version.version)
