"""The door to the model registry: runs with their curves, and versions with their origin.

A version is registered once: weights digest, evaluation digest and fingerprint identify it. Everything that says
where it comes from is written in the same transaction that creates it, so a process killed at any line leaves either
no version or a whole one, and registering again returns it. Weights are never copied into the registry; it holds
their digest, the address of the artefact store, and small evidence (the model card, reports).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.fingerprint import is_digest
from llmops_core.names import is_model_name
from llmops_core.registration import VersionFacts, differences

FINGERPRINT_TAG = "llmops.fingerprint"
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class RegistrationRequest:
    """All that is known when a version is registered.

    `signature` is over `facts.statement()`. `artifact_uri` says where the weights lie. `description` is the model card
    in Markdown. `metrics` are the evaluation's figures. `evidence` maps paths inside the registry to small files.
    """

    facts: VersionFacts
    run_id: str
    signature: str
    artifact_uri: str
    description: str
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    evidence: Mapping[str, Path] = field(default_factory=dict[str, Path])


@dataclass(frozen=True)
class RegisteredVersion:
    """One version as the registry has it; `version` counts from 1 for each model, `tags` hold the facts."""

    model: str
    version: int
    run_id: str
    tags: Mapping[str, str]
    description: str

    def facts(self) -> VersionFacts:
        """Where it comes from, as the registry claims it. Raises IntegrityError if that cannot be read."""
        return VersionFacts.from_tags(self.model, self.tags)


class ModelRegistry(ABC):
    """Every method may raise TransientError (retry), and InputError for names that the registry cannot hold."""

    @abstractmethod
    def open_run(self, model: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run whose tag `llmops.fingerprint` is the one in `tags`; it is begun if there is none."""

    @abstractmethod
    def log(
        self,
        run_id: str,
        metrics: Mapping[str, Sequence[tuple[int, float]]],
        params: Mapping[str, object],
        files: Mapping[str, Path],
    ) -> None:
        """Adds curves {name: [(step, value)]}, parameters and files {path in the run: file}, in as few calls as it can.

        Doing it again with the same content changes nothing; another value for a known parameter is an IntegrityError.
        """

    @abstractmethod
    def close_run(self, run_id: str, status: RunStatus) -> None: ...

    @abstractmethod
    def register(self, request: RegistrationRequest) -> RegisteredVersion:
        """The version with the identity of these facts, made if there is none.

        The first registration stands: made again from another revision, the version still names the first one, so its
        `facts()` are what may be recorded.
        """

    @abstractmethod
    def version(self, model: str, version: int) -> RegisteredVersion | None: ...

    @abstractmethod
    def versions(self, model: str) -> list[RegisteredVersion]:
        """All versions, the oldest first; none for an unknown model."""

    @abstractmethod
    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Moves the alias to the version. Raises InputError if there is no such version."""

    @abstractmethod
    def alias(self, model: str, alias: str) -> int | None:
        """The version that the alias points to."""

    @abstractmethod
    def remove_alias(self, model: str, alias: str) -> None:
        """Takes the alias away; the version stays. Does nothing where there is no such alias."""

    @abstractmethod
    def set_tag(self, model: str, version: int, tag: str, value: str) -> None: ...

    @abstractmethod
    def link(self, model: str, version: int) -> str:
        """The address of the version's page for people."""

    @abstractmethod
    def run_link(self, run_id: str) -> str:
        """The address of the run's page for people."""

    @abstractmethod
    def export_to(self, folder: Path) -> None:
        """Everything it holds as files of an empty folder, for `import_from` of another registry."""

    @abstractmethod
    def import_from(self, folder: Path, artifact_uri: Callable[[str], str]) -> None:
        """Takes in what `export_to` wrote, under the same names and version numbers. Repeating it changes nothing.

        `artifact_uri` says where weights lie here that lay at an address there. Raises InputError where something else
        has one of the names already.
        """

    def verify(self, version: int, expected: VersionFacts) -> RegisteredVersion:
        """The version, whose tags say exactly what is expected. Raises IntegrityError naming each that does not."""
        found = self.version(expected.model, version)
        if found is None:
            raise IntegrityError(f"the registry has no version {version} of {expected.model}")
        wrong = differences(expected.tags(), found.tags)
        if wrong:
            raise IntegrityError(
                f"version {version} of {expected.model} is not what was registered: {'; '.join(wrong)}"
            )
        return found


def check_model(model: str) -> None:
    """Raises InputError unless the text can be a model's name; names also stand in the registry's queries."""
    if not is_model_name(model):
        expected = "lower-case letters, digits, hyphens and dots"
        raise InputError(Problem("registry", "model", repr(model), expected, "this is no name of a model"))


def fingerprint_in(tags: Mapping[str, str]) -> str:
    """The fingerprint that identifies a run. Raises InputError if the tags do not hold one."""
    fingerprint = tags.get(FINGERPRINT_TAG)
    if fingerprint is None or not is_digest(fingerprint):
        message = "a run is known by its fingerprint"
        raise InputError(Problem("registry", FINGERPRINT_TAG, repr(fingerprint), "64 hexadecimal digits", message))
    return fingerprint


def check_files(files: Mapping[str, Path]) -> None:
    """Raises InputError for a path that leaves the run's folder, or a file that is not there."""
    for name, file in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
            raise InputError(Problem("registry", "files", repr(name), "a relative path", "this path leaves the run"))
        if not file.is_file():
            raise InputError(Problem("registry", f"files.{name}", "no file", "a file", f"{file} is not there"))
