"""A watched place on a world: files put there, ticks of its sensor on a clock of the test, and runs in process."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dagster import ExecuteInProcessResult, RunRequest, SensorResult, SkipReason, build_sensor_context

from llmops_assets.jobs.take_arrivals import take_arrivals
from llmops_assets.sensors import arrivals as sensor_module
from llmops_assets.sensors.arrivals import arrivals_sensor
from llmops_core.facts import Fact
from tests.fakes.platform_doors import World

PLACE = "annotators"
SETTLE_SECONDS = 30


@dataclass
class Arriving:
    """The place `annotators` of the model tiny. Ticks are as far apart as a file needs to settle."""

    world: World
    folder: Path
    cursor: str | None = None
    said: str = ""
    now: float = field(default_factory=time.time)

    def watch(self, **changes: Any) -> None:
        """Writes the settings into the platform's own checkout."""
        path = self.world.repository.path / "config" / "local.yaml"
        place = {"name": PLACE, "place": str(self.folder), "model": "tiny", "into": "feedback.jsonl"}
        top = {name: changes.pop(name) for name in ("branch", "allowed_endpoints") if name in changes}
        settings = {**yaml.safe_load(path.read_text()), **top, "arrivals": [{**place, **changes}]}
        self.world.repository.commit({"config/local.yaml": yaml.safe_dump(settings)}, "watch a place")

    def put(self, name: str, *rows: tuple[str, str], raw: str = "") -> None:
        text = raw or "".join(json.dumps({"prompt": q, "response": a}) + "\n" for q, a in rows)
        draft = self.folder / f".{name}"
        draft.write_text(text)
        draft.rename(self.folder / name)

    def tick(self, *, keep_cursor: bool = True) -> list[RunRequest]:
        self.now += SETTLE_SECONDS
        with build_sensor_context(instance=self.world.instance, cursor=self.cursor) as context:
            result = arrivals_sensor(PLACE)(context, platform=self.world.resource())
        assert isinstance(result, SensorResult | SkipReason)
        reason = result if isinstance(result, SkipReason) else result.skip_reason
        self.said = str(reason.skip_message if isinstance(reason, SkipReason) else reason or "")
        if isinstance(result, SkipReason):
            return []
        if keep_cursor:
            self.cursor = result.cursor
        return list(result.run_requests or [])

    def run(self, request: RunRequest) -> ExecuteInProcessResult:
        return take_arrivals.execute_in_process(
            run_config=request.run_config,
            resources={"platform": self.world.resource()},
            instance=self.world.instance,
            tags={**request.tags, "dagster/run_key": str(request.run_key)},
            raise_on_error=False,
        )

    def settled(self) -> RunRequest:
        """Two looks, and the run that the second one asks for."""
        assert self.tick() == []
        (request,) = self.tick()
        return request

    def taken(self) -> ExecuteInProcessResult:
        return self.run(self.settled())

    def facts(self, kind: str) -> list[Fact]:
        return [fact for fact in self.world.doors().ledger.facts() if fact.subject == "arrivals" and fact.kind == kind]

    def branches(self) -> list[str]:
        listed = self.world.repository.git("branch", "--list", "--format=%(refname:short)", "arrivals/*")
        return listed.split()

    def rows_at(self, revision: str) -> list[tuple[str, str]]:
        """What the target holds there, by hash."""
        target = self.world.home.folder("work") / f"read-{revision[:12]}-{time.monotonic_ns()}"
        resolved = self.world.repository.git("rev-parse", revision)
        fetched = self.world.doors().data.fetch(resolved, "data/tiny/feedback.jsonl", target)
        lines = (fetched.folder / fetched.files[0].path).read_text().splitlines()
        return [(row["prompt"], row["response"]) for row in map(json.loads, lines)]


def arriving_at(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Arriving:
    folder.mkdir(exist_ok=True)
    arriving = Arriving(world, folder)
    monkeypatch.setattr(sensor_module, "time", SimpleNamespace(time=lambda: arriving.now))
    monkeypatch.setattr("resources.outside.FIRST_PAUSE_SECONDS", 0)
    return arriving
