"""The only place that chooses implementations: which door of each kind a platform has.

Doors are opened on first use, because a command that only reads the ledger should not pay for MLflow.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from llmops_core.errors import EnvironmentLacks, InputError, Problem
from llmops_core.settings import Settings, load_settings
from llmops_core.touched import data_paths, is_model_yaml
from resources.artifact_store import ArtifactStore, FolderArtifacts
from resources.dataset_store import DatasetStore, DvcStore
from resources.feedback_store import FeedbackStore, FolderFeedback
from resources.file_index import FileIndex
from resources.home import Home
from resources.ledger import Ledger, SqlLedger
from resources.metrics import EnvoyMetrics, Metrics
from resources.processes import Processes, SupervisorProcesses
from resources.recipe_code import RecipeCode
from resources.serving import LocalServing, ServingEngine
from resources.signatures import Signatures, SshSignatures
from resources.source import GitSource, SourceRepository
from resources.traffic import EnvoyGateway, Gateway

if TYPE_CHECKING:
    from resources.jobs import Jobs
    from resources.registry import ModelRegistry


@dataclass(frozen=True)
class Platform:
    """All doors of one platform, and the settings that rule it."""

    home: Home
    settings: Settings

    @cached_property
    def source(self) -> SourceRepository:
        return GitSource(self.home.repository)

    @cached_property
    def data(self) -> DatasetStore:
        return DvcStore(self.home.repository, self.source)

    @cached_property
    def model_reads(self) -> FileIndex[frozenset[str]]:
        """{models/<name>/model.yaml: the paths of DVC outputs that it names}."""
        return FileIndex(self.source, is_model_yaml, self._paths_named, prefix="models/")

    def _paths_named(self, revision: str, path: str) -> frozenset[str]:
        return data_paths(self.source.read(revision, path) or b"", path)

    @cached_property
    def recipe_code(self) -> RecipeCode:
        return RecipeCode(self.source)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        return FolderArtifacts(self.home.folder("artifacts"))

    @cached_property
    def ledger(self) -> Ledger:
        self.home.root.mkdir(parents=True, exist_ok=True)
        return SqlLedger(self.home.ledger_url)

    @cached_property
    def feedback(self) -> FeedbackStore:
        return FolderFeedback(self.home.root / "feedback")

    @cached_property
    def processes(self) -> Processes:
        return SupervisorProcesses(self.home.root)

    @cached_property
    def serving(self) -> ServingEngine:
        if self.settings.serving.kind != "local":
            raise EnvironmentLacks(f"{self.settings.name} serves on {self.settings.serving.kind}, out of reach")
        return LocalServing(self.home.root, self.home.port_base, self.processes)

    @cached_property
    def gateway(self) -> Gateway:
        return EnvoyGateway(self.home.root, self.home.port_base, self.processes)

    @cached_property
    def metrics(self) -> Metrics:
        return EnvoyMetrics(self.home.port_base)

    @cached_property
    def signatures(self) -> Signatures:
        return SshSignatures()

    @cached_property
    def registry(self) -> "ModelRegistry":
        from resources.registry import MlflowRegistry

        return MlflowRegistry(self.home.mlflow_url)

    @cached_property
    def jobs(self) -> "Jobs":
        from resources.jobs import LocalJobs

        return LocalJobs()


def build_platform(home: Home) -> Platform:
    """The platform that `home` names, ruled by its file in the working tree's config/."""
    path = home.repository / "config" / f"{home.environment}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise InputError(
            Problem("environment", "LLMOPS_ENVIRONMENT", home.environment, f"one of: {names}", f"{path} does not exist")
        )
    return Platform(home, load_settings(path.read_bytes(), f"config/{home.environment}.yaml"))
