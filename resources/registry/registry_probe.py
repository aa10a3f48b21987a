"""Trying where an MLflow keeps the files of its runs: clients write them there themselves, without asking the server.

MLflow's own client does it, with the variables that it reads: a store of another address, or one that wants the bucket
in the host's name, is told to it by these alone, and a server that answers says nothing of them.
"""

import json
import tempfile
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path

from resources.registry.mlflow_errors import mlflow_errors

PAGE = "api/2.0/mlflow/experiments/search?max_results=1"
DOING = "writing a file of a run"


def place_of_files(url: str, headers: Mapping[str, str]) -> str:
    """Where the files of an experiment of this server are; empty where it has none. Raises OSError and ValueError."""
    request = urllib.request.Request(f"{url.rstrip('/')}/{PAGE}", headers=dict(headers))  # noqa: S310 -- of the settings
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found = json.load(answer).get("experiments") or [{}]
    return str(found[0].get("artifact_location", ""))


def try_files(place: str) -> None:
    """Writes a file, and removes it. Raises an LlmopsError that says what is in the way."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with mlflow_errors(DOING), tempfile.TemporaryDirectory() as folder:
        trial = Path(folder, "trial")
        trial.write_text("llmops doctor\n", encoding="utf-8")
        files = get_artifact_repository(f"{place.rstrip('/')}/llmops-doctor-{uuid.uuid4().hex}")
        files.log_artifact(str(trial))
        files.delete_artifacts()
