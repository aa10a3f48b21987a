"""MLflow's entries out of files (`registry_export.py`) into another MLflow, as often as it takes.

MLflow gives runs and logged models new ids. Each carries the id it had as a tag, by which a repeated import finds what
an earlier one made, and the registry finds a run that an old record names. Numbers of versions stay: records name
versions by number, so a number that was deleted at the source is used up here too.
"""

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_core.errors import InputError, IntegrityError, Problem
from resources.registry.mlflow_entries import LOGGED_MODEL_TAG, MOVED_FROM_TAG
from resources.registry.mlflow_errors import or_none, unless_there
from resources.registry.registry_export import INDEX, LOGGED_MODELS, RUNS, logged_models_of, runs_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

GAP_TAG = "llmops.gap"  # on a version that only uses up its number, and is deleted when the others are there
_POINTS_PER_CALL = 900
_PARAMS_PER_CALL = 100


class RegistryImport:
    """`experiment` gives the id of the experiment of a name, made if there is none; `tag_value` says what a tag of a
    version says here (such as where its weights lie now)."""

    def __init__(
        self,
        client: "MlflowClient",
        folder: Path,
        experiment: Callable[[str], str],
        tag_value: Callable[[str, str], str],
    ) -> None:
        self._client, self._folder = client, folder
        self._experiment, self._tag_value = experiment, tag_value

    def run(self) -> None:
        """Raises InputError where this MLflow has something else under a name that comes in."""
        for each in self._index["experiments"]:
            for name, value in each["tags"].items():
                self._client.set_experiment_tag(self._experiments[each["id"]], name, value)
        self._runs.values()
        for was, now in self._logged_models.items():
            self._fill_logged_model(was, now)
        for each in self._index["registered_models"]:
            self._registered(each)
        for was, now in self._runs.items():
            self._end_run(self._document(RUNS, was, "run.json"), now)
        for each in self._index["experiments"]:
            if each["deleted"]:
                self._client.delete_experiment(self._experiments[each["id"]])

    @cached_property
    def _index(self) -> Any:
        return json.loads((self._folder / INDEX).read_text(encoding="utf-8"))

    @cached_property
    def _experiments(self) -> dict[str, str]:
        """{id there: id here}"""
        return {each["id"]: self._experiment(each["name"]) for each in self._index["experiments"]}

    @cached_property
    def _runs(self) -> dict[str, str]:
        return {was: self._run(was) for was in self._index["runs"]}

    @cached_property
    def _logged_models(self) -> dict[str, str]:
        return {was: self._logged_model(was) for was in self._index["logged_models"]}

    def _document(self, kind: str, was: str, name: str) -> Any:
        return json.loads((self._folder / kind / was / name).read_text(encoding="utf-8"))

    def _run(self, was: str) -> str:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        told = self._document(RUNS, was, "run.json")
        experiment = self._experiments[told["experiment"]]
        run = self._found_run(experiment, was)
        if run is None:
            tags = {**told["tags"], MOVED_FROM_TAG: was}
            self._client.create_run(experiment, told["start"], tags, told["name"])
            run = self._found_run(experiment, was)
        if run is None:
            raise IntegrityError(f"the registry lost the run {was} that it had just taken in")
        here = run.info.run_id
        if run.info.lifecycle_stage == "deleted":
            self._client.restore_run(here)
        points = [Metric(name, value, at, step) for name, value, at, step in told["points"]]
        params = [Param(name, value) for name, value in told["params"].items() if name not in run.data.params]
        while points or params:
            self._client.log_batch(here, points[:_POINTS_PER_CALL], params[:_PARAMS_PER_CALL])
            points, params = points[_POINTS_PER_CALL:], params[_PARAMS_PER_CALL:]
        if told["inputs"] and not (run.inputs and run.inputs.dataset_inputs):
            inputs = [(Dataset(**each["dataset"]), each["tags"].items()) for each in told["inputs"]]
            tagged = [DatasetInput(data, [InputTag(*tag) for tag in tags]) for data, tags in inputs]
            self._client.log_inputs(here, tagged)
        files = self._folder / RUNS / was / "files"
        if files.is_dir():
            self._client.log_artifacts(here, str(files))
        return here

    def _found_run(self, experiment: str, was: str) -> "Run | None":
        return next(runs_of(self._client, [experiment], f"tags.`{MOVED_FROM_TAG}` = '{was}'"), None)

    def _end_run(self, told: Any, here: str) -> None:
        """How it ended, and that it was deleted, last: MLflow writes nothing into a deleted run."""
        from mlflow.entities import LoggedModelOutput

        run = self._client.get_run(here)
        if told["outputs"] and not (run.outputs and run.outputs.model_outputs):
            outputs = [LoggedModelOutput(self._logged_models[model], step) for model, step in told["outputs"]]
            self._client.log_outputs(here, outputs)
        if told["status"] != "RUNNING":
            self._client.set_terminated(here, told["status"], told["end"])
        if told["deleted"]:
            self._client.delete_run(here)

    def _logged_model(self, was: str) -> str:
        told = self._document(LOGGED_MODELS, was, "model.json")
        experiment = self._experiments[told["experiment"]]
        model = self._found_model(experiment, was)
        if model is None:
            tags = {**told["tags"], MOVED_FROM_TAG: was}
            run = self._runs.get(told["run"])
            self._client.create_logged_model(experiment, told["name"], run, tags, told["params"], told["type"])
            model = self._found_model(experiment, was)
        if model is None:
            raise IntegrityError(f"the registry lost the logged model {was} that it had just taken in")
        return model.model_id

    def _found_model(self, experiment: str, was: str) -> "LoggedModel | None":
        return next(logged_models_of(self._client, [experiment], f"tags.`{MOVED_FROM_TAG}` = '{was}'"), None)

    def _fill_logged_model(self, was: str, here: str) -> None:
        from mlflow.entities import Metric

        told = self._document(LOGGED_MODELS, was, "model.json")
        by_run: dict[str, list[Metric]] = {}
        for name, value, at, step, run in told["points"]:
            if run in self._runs:
                point = Metric(name, value, at, step, model_id=here, run_id=self._runs[run])
                by_run.setdefault(self._runs[run], []).append(point)
        for run, points in by_run.items():
            for first in range(0, len(points), _POINTS_PER_CALL):
                self._client.log_batch(run, points[first : first + _POINTS_PER_CALL])
        files = self._folder / LOGGED_MODELS / was / "files"
        if files.is_dir():
            self._client.log_model_artifacts(here, str(files))
        if told["status"] in ("READY", "FAILED"):
            self._client.finalize_logged_model(here, told["status"])

    def _registered(self, told: Any) -> None:
        name, client = told["name"], self._client
        unless_there(lambda: client.create_registered_model(name, description=told["description"]))
        for tag, value in told["tags"].items():
            client.set_registered_model_tag(name, tag, value)
        versions = {each["number"]: each for each in told["versions"]}
        for number in range(1, max(versions, default=0) + 1):
            found = or_none(lambda number=number: client.get_model_version(name, str(number)))
            following = versions[min(each for each in versions if each >= number)]
            self._version(name, number, following, found)
        for number in set(range(1, max(versions, default=0))) - set(versions):
            if or_none(lambda number=number: client.get_model_version(name, str(number))):
                client.delete_model_version(name, str(number))
        for alias, number in told["aliases"].items():
            client.set_registered_model_alias(name, alias, str(number))

    def _version(self, name: str, number: int, told: Any, found: "ModelVersion | None") -> None:
        """`told` is the version of this number, or the next one, whose files then stand for a number to be used up."""
        gap = told["number"] != number
        if gap and (found is not None or self._newest(name) >= number):
            return
        if found is not None:
            if found.tags.get(MOVED_FROM_TAG) != _came_from(told):
                here, expected = f"another version {number} of {name}", "none, or the one that comes in"
                raise InputError(Problem("registry", name, here, expected, "it was made here; nothing replaces it"))
            return
        model = self._logged_models.get(told["tags"].get(LOGGED_MODEL_TAG))
        source = told["source"] if model is None else self._client.get_logged_model(model).artifact_location
        tags = {tag: self._tag_value(tag, value) for tag, value in told["tags"].items()}
        if model is not None:
            tags[LOGGED_MODEL_TAG] = model
        made = self._client.create_model_version(
            name,
            source,
            run_id=self._runs.get(told["run"]),
            tags={GAP_TAG: "true"} if gap else {**tags, MOVED_FROM_TAG: _came_from(told)},
            description=None if gap else told["description"],
            await_creation_for=0,
            model_id=model,
        )
        if int(made.version) != number:
            raise IntegrityError(f"the registry made version {made.version} of {name} where {number} was to come in")

    def _newest(self, name: str) -> int:
        return max((int(each.version) for each in self._client.search_model_versions(f"name = '{name}'")), default=0)


def _came_from(told: Any) -> str:
    """What a version is known by: its number, and when it was made in milliseconds since 1970."""
    return f"{told['number']}@{told['created']}"
