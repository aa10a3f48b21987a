"""The only place that chooses implementations: which door of each kind a platform has.

Doors are opened on first use, because a command that only reads the ledger should not pay for MLflow.
"""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_core.arrival_settings import WatchedPlace
from llmops_core.cursor import rules_with
from llmops_core.errors import EnvironmentLacks, InputError
from llmops_core.fingerprint import digest_of
from llmops_core.job_settings import ClusterJobsPlace, LocalJobsPlace
from llmops_core.outage import Reach, read_reach
from llmops_core.platform_settings import Bucket
from llmops_core.repositories import WatchedRepository
from llmops_core.serving_manifest import WeightStore
from llmops_core.serving_settings import LocalServingPlace
from llmops_core.settings import Settings
from llmops_core.touched import data_paths, is_model_yaml
from resources.data.arrivals import Place, place_of
from resources.data.dataset_commit import DatasetCommits, GitDvcCommits
from resources.data.dataset_store import DatasetStore, DvcStore
from resources.data.feedback_store import FeedbackStore, FolderFeedback, S3Feedback
from resources.data.file_index import FileIndex
from resources.git.mirror import Mirror
from resources.git.recipe_code import RecipeCode
from resources.git.ruling_files import Followed, RulingFiles, ruling_files
from resources.git.ruling_settings import ruling_settings
from resources.git.source import GitSource, SourceRepository
from resources.home import Home, clone_of
from resources.host.processes import Processes, SupervisorProcesses
from resources.ledger.ledger import Ledger, SqlLedger
from resources.ledger.postgres import database_url
from resources.secret_values import secret_value
from resources.serving.serving import LocalServing, ServingEngine
from resources.signatures import Signatures, SshSignatures
from resources.storage.artifact_store import ArtifactStore, FolderArtifacts
from resources.storage.object_store import NamedPlace
from resources.storage.publishing import publish_json, read_json
from resources.storage.s3_artifacts import S3Artifacts
from resources.traffic.metrics import EnvoyMetrics, Metrics
from resources.traffic.prometheus_metrics import PrometheusMetrics
from resources.traffic.traffic import EnvoyGateway, Gateway

if TYPE_CHECKING:
    from resources.jobs.jobs import Jobs
    from resources.registry.registry import ModelRegistry

# the doors that lead into one repository; a platform has its own of each for every repository it watches
READING = ("source", "data", "model_reads", "recipe_code", "mirror")


@dataclass(frozen=True)
class Platform:
    """All doors of one platform, and the settings that rule it.

    `repository` is the watched one whose commits and data are read, by its name; empty for the platform's own checkout.
    The settings, the approvers and all other doors are the platform's own, whichever is read.
    """

    home: Home
    settings: Settings
    repository: str = ""

    def at(self, repository: str) -> "Platform":
        """The same platform, reading another repository. Everything that is open already is shared."""
        if repository not in self._views:
            view = replace(self, repository=repository)
            shared = {name: door for name, door in self.__dict__.items() if name not in READING}
            view.__dict__.update({**shared, "repository": repository})
            self._views[repository] = view
        return self._views[repository]

    @cached_property
    def _views(self) -> dict[str, "Platform"]:
        return {self.repository: self}

    @property
    def watched(self) -> WatchedRepository:
        """What the settings say of the repository that is read. Raises EnvironmentLacks when they no longer do."""
        for each in self.settings.repositories:
            if each.name == self.repository:
                return each
        raise EnvironmentLacks(f"{self.settings.name} watches no repository {self.repository} (any more)")

    @cached_property
    def rules(self) -> str:
        """What a decision of a sensor rests on besides a commit."""
        return rules_with(digest_of(self.settings.model_dump(mode="json")))

    @property
    def branch(self) -> str:
        """The branch that is followed; HEAD for whatever is checked out."""
        return (self.watched.branch if self.repository else None) or self.settings.branch

    @property
    def follows(self) -> bool:
        """Whether the repository that is read is fetched from elsewhere; else it is a checkout in which people work."""
        return bool(self.repository) or self.home.origin is not None

    @cached_property
    def mirror(self) -> Mirror:
        """Of a repository that is followed."""
        if not self.repository and isinstance(self.ruling, Followed):
            return self.ruling.mirror
        return Mirror(self._mirrors, self.watched, self.branch, allowed_endpoints=self.settings.allowed_endpoints)

    @property
    def ruling(self) -> RulingFiles:
        return ruling_files(self.home)

    @property
    def _mirrors(self) -> Path:
        return self.home.root / "mirrors"

    @property
    def checkout(self) -> Path:
        """The clone that is read: its Git objects, and the DVC settings of its .dvc folder."""
        return clone_of(self._mirrors, self.repository) if self.repository else self.home.repository

    @cached_property
    def source(self) -> SourceRepository:
        own = self.home.origin.url if self.home.origin else ""
        named = {each.name: each.url for each in self.settings.repositories}
        return GitSource(self.checkout, named.get(self.repository, "") if self.repository else own)

    @cached_property
    def data(self) -> DatasetStore:
        return DvcStore(self.checkout, self.source, self.settings.allowed_endpoints if self.repository else None)

    def data_reach(self, sensor: str) -> Reach:
        """What a sensor found when it looked for data last."""
        return read_reach(read_json(self._data_reach_file(sensor)) or {})

    def keep_data_reach(self, sensor: str, reach: Reach) -> None:
        if reach != self.data_reach(sensor):
            publish_json(self._data_reach_file(sensor), reach.as_dict())

    def _data_reach_file(self, sensor: str) -> Path:
        return self.home.root / "reach" / f"{sensor}.json"

    @cached_property
    def dataset_commits(self) -> DatasetCommits:
        own = self.at("")
        return GitDvcCommits(self.home.repository, self.home.folder("work"), own.mirror if own.follows else None)

    def place(self, watched: WatchedPlace) -> Place:
        return place_of(watched)

    @cached_property
    def model_reads(self) -> FileIndex[frozenset[str]]:
        """{models/<name>/model.yaml: the paths of DVC outputs that it names}."""
        return FileIndex(self.source, is_model_yaml, self._paths_named, prefix="models/")

    def _paths_named(self, revision: str, path: str) -> frozenset[str]:
        try:
            return data_paths(self.source.read(revision, path) or b"", path)
        except InputError:
            return frozenset()  # such as a symbolic link: its own model is refused, the others go on

    @cached_property
    def recipe_code(self) -> RecipeCode:
        return RecipeCode(self.source)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        folder, bucket = self.home.folder("artifacts"), self.settings.platform.artifacts
        if bucket is None:
            return FolderArtifacts(folder)
        return S3Artifacts(self.named_place("platform.artifacts.uri", bucket), folder)

    def named_place(self, field: str, bucket: Bucket) -> NamedPlace:
        """A bucket of the settings, with the field that names it."""
        return NamedPlace(f"config/{self.settings.name}.yaml", field, bucket.uri, bucket.endpoint, bucket.region)

    @cached_property
    def ledger(self) -> Ledger:
        self.home.folder("")
        database = self.settings.platform.ledger
        return SqlLedger(self.home.ledger_url if database is None else database_url(database, os.environ))

    @cached_property
    def feedback(self) -> FeedbackStore:
        bucket = self.settings.platform.feedback
        if bucket is None:
            return FolderFeedback(self.home.root / "feedback")
        return S3Feedback(self.named_place("platform.feedback.uri", bucket))

    @cached_property
    def processes(self) -> Processes:
        return SupervisorProcesses(self.home.root)

    @cached_property
    def serving(self) -> ServingEngine:
        place = self.settings.serving
        if isinstance(place, LocalServingPlace):
            return LocalServing(self.home.root, self.home.port_base, self.processes)
        from resources.cluster.kubernetes_api import connected
        from resources.serving.kubernetes_serving import KubernetesServing

        bucket, jobs = self.settings.platform.artifacts, self.settings.jobs
        store = WeightStore(bucket.uri, bucket.endpoint, bucket.region) if bucket is not None else None
        gpus = jobs.gpus if isinstance(jobs, ClusterJobsPlace) else {}
        return KubernetesServing(place, connected(place.namespace), store, gpus)

    @cached_property
    def gateway(self) -> Gateway:
        place = self.settings.serving
        if isinstance(place, LocalServingPlace):
            return EnvoyGateway(self.home.root, self.home.port_base, self.processes)
        from resources.cluster.kubernetes_api import connected
        from resources.traffic.httproute_gateway import HttpRouteGateway

        return HttpRouteGateway(place, connected(place.namespace))

    @property
    def gateway_url(self) -> str:
        """Where clients send their requests."""
        place = self.settings.serving
        return self.home.gateway_url if isinstance(place, LocalServingPlace) else place.gateway.url.rstrip("/")

    @cached_property
    def metrics(self) -> Metrics:
        place = self.settings.serving
        if isinstance(place, LocalServingPlace):
            return EnvoyMetrics(self.home.port_base)
        return PrometheusMetrics(place.prometheus, place.namespace)

    @cached_property
    def signatures(self) -> Signatures:
        return SshSignatures()

    @cached_property
    def registry(self) -> "ModelRegistry":
        from resources.registry.registry import MlflowRegistry

        server = self.settings.platform.mlflow
        if server is None:
            return MlflowRegistry(self.home.mlflow_url)
        if server.token is not None:  # MLflow reads it from nowhere else
            os.environ["MLFLOW_TRACKING_TOKEN"] = secret_value(server.token, os.environ)
        return MlflowRegistry(server.url)

    @cached_property
    def registry_at_rest(self) -> "ModelRegistry":
        """The same registry while the platform is down: its own MLflow's database is opened without its server."""
        from resources.registry.registry import MlflowRegistry

        if self.settings.platform.mlflow is not None:
            return self.registry
        folder, database = self.home.folder("mlflow"), self.settings.platform.mlflow_database
        url = f"sqlite:///{folder / 'mlflow.db'}"
        if database is not None:
            url = database_url(database, os.environ).render_as_string(hide_password=False)
        return MlflowRegistry(url, (folder / "artifacts").as_uri())

    @cached_property
    def jobs(self) -> "Jobs":
        place = self.settings.jobs
        if isinstance(place, LocalJobsPlace):
            from resources.jobs.jobs import LocalJobs

            return LocalJobs()
        from resources.cluster.kubernetes_api import connected
        from resources.jobs.kubernetes_jobs import KubernetesJobs

        store = self.named_place("jobs.store.uri", place.store)
        return KubernetesJobs(place, connected(place.namespace), store)


def build_platform(home: Home, newest_only: bool = False) -> Platform:
    """The platform that `home` names, with the settings that rule there (resources/git/ruling_settings.py, which says
    what is raised)."""
    return Platform(home, ruling_settings(home, newest_only))
