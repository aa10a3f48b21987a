"""A platform in pods: every look at it is from an empty disk, which clones the origin of the repository."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from llmops_assets.resource import PlatformResource
from resources.data.feedback_store import FolderFeedback
from resources.home import Home, home_from
from resources.ledger.ledger import SqlLedger
from resources.signatures import SshSignatures
from resources.storage.artifact_store import FolderArtifacts
from resources.wiring import Platform, build_platform
from tests.fakes.git_with_data import GitWithData
from tests.fakes.platform_doors import World

SIGNERS = "config/platform_signers/local"
STORE = "https://store.example.com"


class PodWorld(World):
    """`home` is the pod of the code location, which lives on; `doors` opens the platform in a new one."""

    def __init__(self, root: Path, server: Any) -> None:
        super().__init__(root, server)
        self.pods = itertools.count()
        self.home = self.pod()
        self.shape = ""

    def pod(self) -> Home:
        where = {"LLMOPS_HOME": str(self.root / "pods" / str(next(self.pods))), "LLMOPS_BRANCH": "main"}
        return home_from({**where, "LLMOPS_ORIGIN": f"file://{self.repository.path}"}, self.root)

    def resource(self) -> PlatformResource:
        """That of the code location, as it began."""
        return PlatformResource(
            repository="", home=str(self.home.root), origin=self.home.origin_variables, shape=self.shape
        )

    def doors(self) -> Platform:
        return self.opened(self.pod())

    def opened(self, home: Home) -> Platform:
        """The platform in a pod, with what pods share."""
        platform = build_platform(home)
        fakes = {"registry": self.registry, "jobs": self.jobs, "processes": self.processes, "serving": self.serving}
        folders = {
            "artifacts": FolderArtifacts(self.root / "artifacts"),
            "feedback": FolderFeedback(self.root / "rated"),
        }
        platform.__dict__.update(ledger=SqlLedger(f"sqlite:///{self.root / 'ledger.db'}"), **fakes, **folders)
        return platform


def pod_world(root: Path, repository: GitWithData) -> PodWorld:
    """Of a repository whose settings fit."""
    made = PodWorld(root, SimpleNamespace(port=8600, gateway=None))
    files = {"config/local.yaml": yaml.safe_dump(settings_for_pods(made)), ".dvc/config": remote_in(repository)}
    repository.commit({**files, SIGNERS: signers_of(made)}, "work in pods")
    return made


def remote_in(repository: GitWithData) -> str:
    """DVC's settings: objects are where the repository is, which no pod has."""
    return f"[core]\n    remote = s\n['remote \"s\"']\n    url = {repository.path}/.dvc/cache\n"


def key_of(world: World) -> Path:
    return world.root / "secrets" / "signing"


def signers_of(world: World) -> str:
    return f"llmops-platform {SshSignatures().make_key(key_of(world), 'platform')}\n"


def settings_for_pods(world: World, store: str = STORE) -> dict[str, Any]:
    """The sample's, where what must outlast a pod is somewhere else. Nobody asks the databases named here."""

    def bucket(folder: str) -> dict[str, str]:
        return {"uri": f"s3://llmops/{folder}", "endpoint": store}

    ledger = {"host": "postgres.example.com", "database": "l", "user": "l", "password": {"env": "PGPASSWORD"}}
    places: dict[str, Any] = {"ledger": ledger, "mlflow": {"url": "https://mlflow.example.com"}}
    places |= {"signing": {"key": str(key_of(world)), "signers": SIGNERS}}
    places |= {name: bucket(name) for name in ("artifacts", "feedback")}
    jobs = {"kind": "kubernetes", "namespace": "llm", "image": "example.com/training:1", "store": bucket("jobs")}
    serving = {
        **{"kind": "kubernetes", "namespace": "llm", "image": "example.com/code:1"},
        **{"gateway": {"name": "models", "url": "https://models.example.com"}},
        "prometheus": {"url": "https://prometheus.example.com"},
    }
    settings = yaml.safe_load((world.repository.path / "config" / "local.yaml").read_text())
    settings["approvals"]["sign_locally"] = False
    return {**settings, "branch": "main", "platform": places, "jobs": jobs, "serving": serving}
