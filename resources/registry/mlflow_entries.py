"""What MLflow's entries hold, and how ours become theirs and back."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_core.errors import IntegrityError
from llmops_core.registration import IDENTITY, SIGNATURE_TAG, TAG_PREFIX, VersionFacts
from resources.registry.model_registry import RegisteredVersion, RegistrationRequest

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

ARTIFACT_TAG = "llmops.artifact_uri"
LOGGED_MODEL_TAG = "llmops.logged_model"
MOVED_FROM_TAG = "llmops.moved_from"  # the id that a run, a logged model or a version had where it was moved from
CARD = "model_card.md"
_DESCRIPTION_CHARACTERS = 5000  # the column's width in MLflow's schema; PostgreSQL refuses longer ones


def identity_query(facts: VersionFacts) -> str:
    """What makes two registrations the same; the values are digests, so nothing needs quoting."""
    return " AND ".join(f"tags.`{TAG_PREFIX}{name}` = '{getattr(facts, name)}'" for name in IDENTITY)


def tags_of(request: RegistrationRequest) -> dict[str, str]:
    return {**request.facts.tags(), SIGNATURE_TAG: request.signature, ARTIFACT_TAG: request.artifact_uri}


def as_version(found: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion(
        found.name, int(found.version), found.run_id or "", dict(found.tags), found.description or ""
    )


def new_params(run: "Run", params: Mapping[str, object]) -> dict[str, str]:
    """The parameters that the run lacks. Raises IntegrityError where it has another value."""
    wanted = {name: str(value) for name, value in params.items()}
    for name, known in run.data.params.items():
        if name in wanted and wanted.pop(name) != known:
            message = f"run {run.info.run_id} has {name} = {known}, not {params[name]}: its fingerprint is not unique"
            raise IntegrityError(message)
    return wanted


def shortened(description: str) -> str:
    if len(description) <= _DESCRIPTION_CHARACTERS:
        return description
    note = f"\n\n… shortened; the whole card is {CARD} among the logged model's files."
    return description[: _DESCRIPTION_CHARACTERS - len(note)] + note


@contextmanager
def gathered(files: Mapping[str, Path]) -> Iterator[str]:
    """A folder that shows the files under their names in the registry, without copying them."""
    with tempfile.TemporaryDirectory(prefix="llmops-registry-") as folder:
        for name, file in files.items():
            place = Path(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.resolve())
        yield folder
