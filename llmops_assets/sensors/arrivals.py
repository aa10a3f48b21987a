"""Watches the places that settings name under `arrivals`, each with a sensor of its own: an outage stops one alone.

A look that finds whole files which were neither taken nor refused asks for a run. The run key names the place and the
files with their versions, so repeated and overlapping ticks start one run. A run that ended without an outcome (it was
killed, or something could not be reached) is asked for again, each time after twice the pause.
"""

import json
import time

from dagster import (
    DagsterInstance,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from llmops_assets.jobs.take_arrivals import take_arrivals, take_files
from llmops_assets.operations.arrivals import Seen, batch_digest, look
from llmops_assets.resource import PlatformResource
from llmops_core.arrival_settings import WatchedPlace
from llmops_core.arrivals import Look

INTERVAL_SECONDS = 30
LONGEST_PAUSE_SECONDS = 3600
PLACE_TAG, BATCH_TAG = "llmops/place", "llmops/batch"


def arrivals_sensor(name: str) -> SensorDefinition:
    """The sensor of one place, by the place's name."""

    @sensor(
        name=f"arrivals_{name}",
        job=take_arrivals,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description=f"Takes whole files that arrive in the place {name}.",
    )
    def arrivals(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
        doors = platform.open()
        watched = next((place for place in doors.settings.arrivals if place.name == name), None)
        if watched is None:
            return SkipReason(f"{name} is watched no more")
        seen = look(doors, watched, _looks(context.cursor), time.time())
        request, said = _request(context.instance, watched, seen)
        return SensorResult(
            run_requests=[request] if request else [],
            skip_reason=None if request else "\n".join([said, *_told(seen)]),
            cursor=json.dumps({file: [each.version, each.since] for file, each in seen.sorting.looks.items()}),
        )

    return arrivals


def _request(instance: DagsterInstance, watched: WatchedPlace, seen: Seen) -> tuple[RunRequest | None, str]:
    """The run to ask for, if one is due; and what is said where none is."""
    if not seen.batch:
        return None, f"nothing new in {watched.place}"
    if seen.waits:
        return None, f"{len(seen.batch)} files wait: {seen.waits}"
    digest = batch_digest(seen.batch)[:16]
    records = instance.get_run_records(
        RunsFilter(job_name=take_arrivals.name, tags={PLACE_TAG: watched.name}), limit=50
    )
    if going := next((r.dagster_run for r in records if not r.dagster_run.is_finished), None):
        return None, f"{len(seen.batch)} files wait for run {going.run_id[:8]}, which takes others"
    tried = [record for record in records if record.dagster_run.tags.get(BATCH_TAG) == digest]
    pause = min(INTERVAL_SECONDS * 2 ** len(tried), LONGEST_PAUSE_SECONDS)
    if tried and (ago := time.time() - tried[0].update_timestamp.timestamp()) < pause:
        return None, f"run {tried[0].dagster_run.run_id[:8]} ended without an outcome; again in {pause - ago:.0f} s"
    request = RunRequest(
        run_key=f"arrivals:{watched.name}:{digest}:{len(tried)}",
        run_config={"ops": {take_files.name: {"config": {"place": watched.name, "files": seen.batch}}}},
        tags={PLACE_TAG: watched.name, BATCH_TAG: digest},
    )
    return request, ""


def _told(seen: Seen) -> list[str]:
    """What lies there and is not taken, and why."""
    lines = [f"{name}: changed lately; it is taken when it stays as it is" for name in seen.sorting.growing]
    lines += [f"{name}: {reason}" for name, reason in seen.sorting.unfit.items()]
    return lines + [f"refused: {reason}" for reason in seen.refused.values()]


def _looks(cursor: str | None) -> dict[str, Look]:
    return {name: Look(version, since) for name, (version, since) in json.loads(cursor or "{}").items()}
