"""A platform without servers: Git, DVC, artefacts, ledger and signatures are real; what runs or serves is a fake."""

import copy
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dagster import DagsterInstance, ExecuteInProcessResult, materialize

from llmops_assets.definitions import STORY
from llmops_assets.release import Release, open_release
from llmops_assets.resource import PlatformResource
from llmops_assets.step import Step
from resources.git.recipe_code import RecipeCode
from resources.git.source import GitSource
from resources.home import Home
from resources.wiring import Platform, build_platform
from tests.fakes.git_with_data import ANSWERS, GitWithData, made_repository
from tests.fakes.http_gateway import AnsweringGateway, GatewayServer
from tests.fakes.jobs import FakeJobs
from tests.fakes.processes import FakeProcesses
from tests.fakes.registry import FakeRegistry
from tests.fakes.serving import FakeServing
from tests.fakes.traffic import FakeMetrics

MODEL = "tiny"
UNTIL_APPROVAL = tuple(asset.key.path[-1] for asset in STORY[:8])


@dataclass
class Turn:
    """What a stage uses of Dagster's context, with what it did to it."""

    run_id: str = "run"
    partition_key: str = MODEL
    retry_number: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("turn"))

    @property
    def run(self) -> SimpleNamespace:
        return SimpleNamespace(tags=dict(self.tags), run_id=self.run_id)

    @property
    def instance(self) -> SimpleNamespace:
        return SimpleNamespace(add_run_tags=lambda run_id, tags: self.tags.update(tags))


class World:
    """One repository, one home, one platform. `doors` returns a platform as another process would open it, but for what
    a process finds out of the code of recipes: that is found once, as it takes half of a story's time."""

    def __init__(self, root: Path, server: GatewayServer, code: RecipeCode | None = None) -> None:
        self.root = root
        self.server = server
        self.repository = GitWithData(root / "repository")
        self.home = Home(root / "repository", root / "home", server.port)
        self.gateway = server.gateway = AnsweringGateway(ANSWERS)
        self.serving, self.registry = FakeServing(), FakeRegistry()
        self.jobs, self.processes = FakeJobs(), FakeProcesses()
        self.code = code or RecipeCode(GitSource(root / "repository"))
        self.instance = DagsterInstance.ephemeral()
        self.instance.add_dynamic_partitions("models", [MODEL])

    def doors(self) -> Platform:
        platform = build_platform(self.home)
        fakes = {"gateway": self.gateway, "metrics": FakeMetrics(self.gateway), "serving": self.serving}
        platform.__dict__.update(fakes, registry=self.registry, jobs=self.jobs, processes=self.processes)
        if self.home.origin is None:
            platform.__dict__["recipe_code"] = self.code
        return platform

    def release(self, revision: str = "") -> Release:
        return open_release(self.doors(), MODEL, revision or self.repository.head)

    def step(self, stage: str, run_id: str = "run", revision: str = "") -> Step:
        return Step(stage, self.release(revision), Turn(run_id))  # type: ignore[arg-type]

    def materialize(self, *stages: str, tags: dict[str, str] | None = None) -> ExecuteInProcessResult:
        """Runs these assets in Dagster, in one run; the story from data to production when none is named."""
        wanted = stages or tuple(asset.key.path[-1] for asset in STORY[:10])
        chosen = [asset for asset in STORY if asset.key.path[-1] in wanted]
        return materialize(
            chosen,
            partition_key=MODEL,
            instance=self.instance,
            resources={"platform": self.resource()},
            tags=tags,
            raise_on_error=False,
        )

    def resource(self) -> PlatformResource:
        where = {"repository": str(self.home.repository), "home": str(self.home.root)}
        return PlatformResource(**where, environment=self.home.environment, origin=self.home.origin_variables)

    def shares(self) -> dict[str, int]:
        """Of production's traffic in percent, by deployment without its fingerprint."""
        route = self.gateway.current().route(MODEL, "production")
        shares = route.shares if route else ()
        return {share.deployment.name.rpartition("-")[0]: share.weight_percent for share in shares}

    def reasons(self, subject: str) -> list[str]:
        """Why this stage was refused, in order."""
        facts = self.doors().ledger.facts(MODEL)
        return [fact.body["reason"] for fact in facts if fact.kind == "refused" and fact.subject == subject]


@dataclass(frozen=True)
class Snapshot:
    """A world as it was at one moment; every test gets it back as it was, at the same paths."""

    world: World
    kept: Path

    @classmethod
    def of(cls, world: World, kept: Path) -> "Snapshot":
        shutil.copytree(world.root, kept, symlinks=True)
        frozen = copy.copy(world)
        frozen.serving, frozen.registry = copy.deepcopy((world.serving, world.registry))
        frozen.gateway = copy.copy(world.gateway)
        frozen.gateway.applied = list(world.gateway.applied)
        return cls(frozen, kept)

    def restored(self) -> World:
        then = self.world
        remove(then.root)
        shutil.copytree(self.kept, then.root, symlinks=True)
        world = World(then.root, then.server, then.code)
        world.serving, world.registry = copy.deepcopy((then.serving, then.registry))
        world.gateway.applied = list(then.gateway.applied)
        return world


def remove(folder: Path) -> None:
    """Also folders that were made read-only."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def serving_gateway() -> Iterator[GatewayServer]:
    server = GatewayServer()
    try:
        yield server
    finally:
        server.end()


def new_world(root: Path, server: GatewayServer) -> World:
    made_repository(root / "repository")
    return World(root, server)


def opened(world: World, monkeypatch: Any) -> World:
    """Dagster's resource opens this world's platform from now on."""
    monkeypatch.setattr("llmops_assets.resource._built", lambda home, ruled_by: world.doors())
    return world
