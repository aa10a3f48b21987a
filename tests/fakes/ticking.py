"""What Dagster's daemon does with a sensor, a step at a time, so that a test can stop it between any two.

As the real one: a run is created for each run key that none of the sensor's runs has yet, and the cursor is kept only
after all runs are there. A tick that raises keeps nothing.
"""

from dataclasses import dataclass, field

from dagster import (
    DagsterEvent,
    DagsterRun,
    DagsterRunStatus,
    RunRequest,
    SensorDefinition,
    SensorResult,
    SkipReason,
    build_sensor_context,
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.utils import make_new_run_id

from llmops_assets.jobs.release import release
from llmops_assets.sensors.repository import repository
from tests.fakes.platform_doors import World

RUN_KEY_TAG = "dagster/run_key"
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("llmops_assets"), "__repository__"), release.name
)


@dataclass
class Ticking:
    """The repository sensor on a world, with its cursor and runs. Runs are only queued, never executed."""

    world: World
    cursor: str | None = None
    launched: list[RunRequest] = field(default_factory=list)
    said: str = ""
    sensor: SensorDefinition = repository

    def tick(self, *, launch: int | None = None, keep_cursor: bool = True) -> list[RunRequest]:
        """One evaluation; returns the requests that made a run. `launch` ends the daemon after that many runs."""
        result = self.evaluate()
        if isinstance(result, SkipReason):
            return []
        new = [request for request in (result.run_requests or [])[:launch] if not self._has_run(request)]
        for request in new:
            self._queue(request)
        for add in result.dynamic_partitions_requests or []:
            self.world.instance.add_dynamic_partitions(add.partitions_def_name, list(add.partition_keys))
        if keep_cursor and launch is None:
            self.cursor = result.cursor
        return new

    def evaluate(self) -> SensorResult | SkipReason:
        with build_sensor_context(instance=self.world.instance, cursor=self.cursor) as context:
            result = self.sensor(context, platform=self.world.resource())
        assert isinstance(result, SensorResult | SkipReason)
        reason = result if isinstance(result, SkipReason) else result.skip_reason
        self.said = str(reason.skip_message if isinstance(reason, SkipReason) else reason or "")
        return result

    def statuses(self) -> list[DagsterRunStatus]:
        """Of all runs, in the order in which they were asked for."""
        found = {run.tags[RUN_KEY_TAG]: run.status for run in self.world.instance.get_runs()}
        return [found[str(request.run_key)] for request in self.launched]

    def _has_run(self, request: RunRequest) -> bool:
        return any(run.tags.get(RUN_KEY_TAG) == request.run_key for run in self.world.instance.get_runs())

    def _queue(self, request: RunRequest) -> None:
        tags = {**request.tags, "dagster/partition": str(request.partition_key), RUN_KEY_TAG: str(request.run_key)}
        run = DagsterRun(job_name=release.name, run_id=make_new_run_id(), tags=tags, remote_job_origin=ORIGIN)
        self.world.instance.add_run(run)
        self.world.instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)
        self.launched.append(request)
