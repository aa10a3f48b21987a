"""MLflow's entries as files: experiments, runs with their curves and files, logged models, registered models with
versions, aliases and tags. `registry_import.py` brings them into another MLflow.

    <folder>/registry.json                     experiments, ids, registered models; written last
    <folder>/runs/<id>/run.json, files/        one run
    <folder>/logged_models/<id>/model.json, files/

The released mlflow-export-import (1.2, of 2023) knows neither logged models nor aliases, so this speaks to MLflow's
own client. What belongs to no experiment or registered model (traces, prompts, gateways) is left out; this platform
makes none.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

INDEX, RUNS, LOGGED_MODELS = "registry.json", "runs", "logged_models"
OWN_TAG = "mlflow.modelVersions"  # MLflow's server writes it when a version is made of a logged model
_ALL = 3  # MLflow's ViewType: what is deleted can be restored, so it counts


def written_out(client: "MlflowClient", uri: str, folder: Path) -> None:
    """Everything of the MLflow at `uri` as files of an empty folder."""
    experiments = list(every(lambda page: client.search_experiments(view_type=_ALL, page_token=page)))
    versions: dict[str, list[Any]] = {}
    for version in every(lambda page: client.search_model_versions(page_token=page)):
        versions.setdefault(version.name, []).append(_version(version))
    registered = every(lambda page: client.search_registered_models(page_token=page))
    ids = [each.experiment_id for each in experiments]
    index = {
        "experiments": [
            {"id": e.experiment_id, "name": e.name, "tags": dict(e.tags), "deleted": e.lifecycle_stage == "deleted"}
            for e in experiments
        ],
        "runs": [_run(client, uri, run, folder) for run in runs_of(client, ids)],
        "logged_models": [_logged_model(client, uri, model, folder) for model in logged_models_of(client, ids)],
        "registered_models": [_registered(each, versions.get(each.name, [])) for each in registered],
    }
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def every(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """All pages of one of MLflow's searches."""
    page = None
    while True:
        found = search(page)
        yield from found
        page = found.token
        if not page:
            return


def runs_of(client: "MlflowClient", experiments: list[str], query: str = "") -> Iterator["Run"]:
    """Also the deleted ones, the oldest first."""
    if experiments:
        order = ["attributes.start_time ASC"]
        yield from every(lambda page: client.search_runs(experiments, query, _ALL, order_by=order, page_token=page))


def logged_models_of(client: "MlflowClient", experiments: list[str], query: str = "") -> Iterator["LoggedModel"]:
    if experiments:
        yield from every(lambda page: client.search_logged_models(experiments, query, page_token=page))


def _run(client: "MlflowClient", uri: str, run: "Run", folder: Path) -> str:
    info, data = run.info, run.data
    curves = {name: client.get_metric_history(info.run_id, name) for name in data.metrics}
    document = {
        **{"experiment": info.experiment_id, "name": info.run_name, "status": info.status},
        **{"start": info.start_time, "end": info.end_time, "deleted": info.lifecycle_stage == "deleted"},
        **{"tags": dict(data.tags), "params": dict(data.params)},
        "points": [[name, p.value, p.timestamp, p.step] for name, curve in curves.items() for p in curve],
        "inputs": [each.to_dictionary() for each in (run.inputs.dataset_inputs if run.inputs else [])],
        "outputs": [[each.model_id, each.step] for each in (run.outputs.model_outputs if run.outputs else [])],
    }
    place = folder / RUNS / info.run_id
    _write(place, "run.json", document)
    if client.list_artifacts(info.run_id):
        _files(str(info.artifact_uri), uri, place)
    return info.run_id


def _logged_model(client: "MlflowClient", uri: str, model: "LoggedModel", folder: Path) -> str:
    document = {
        **{"experiment": model.experiment_id, "name": model.name, "run": model.source_run_id},
        **{"type": model.model_type, "status": str(model.status)},
        **{"tags": {k: v for k, v in model.tags.items() if k != OWN_TAG}, "params": dict(model.params)},
        "points": [[m.key, m.value, m.timestamp, m.step, m.run_id] for m in model.metrics or []],
    }
    place = folder / LOGGED_MODELS / model.model_id
    _write(place, "model.json", document)
    if client.list_logged_model_artifacts(model.model_id):
        _files(model.artifact_location, uri, place)
    return model.model_id


def _registered(model: "RegisteredModel", versions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **{"name": model.name, "description": model.description, "tags": dict(model.tags)},
        "aliases": {alias: int(version) for alias, version in model.aliases.items()},
        "versions": sorted(versions, key=lambda each: each["number"]),
    }


def _version(version: "ModelVersion") -> dict[str, Any]:
    return {
        **{"number": int(version.version), "created": version.creation_timestamp, "source": version.source},
        **{"run": version.run_id, "description": version.description, "tags": dict(version.tags)},
    }


def _write(place: Path, name: str, document: Any) -> None:
    place.mkdir(parents=True)
    (place / name).write_text(json.dumps(document), encoding="utf-8")


def _files(artifacts: str, uri: str, place: Path) -> None:
    from mlflow.artifacts import download_artifacts

    (place / "files").mkdir()
    found = Path(download_artifacts(artifact_uri=artifacts, dst_path=str(place / "files"), tracking_uri=uri))
    if found != place / "files":  # MLflow puts the folder itself below
        for each in list(found.iterdir()):
            each.rename(place / "files" / each.name)
        found.rmdir()
