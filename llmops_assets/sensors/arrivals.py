"""Watches the places that settings name under `arrivals`, each with a sensor of its own: an outage stops one alone.

A look that finds whole files which were neither taken nor refused asks for a run. The run key names the place, the
files with their versions and the last run that tried them, so repeated and overlapping ticks start one run. A run that
ended without an outcome (it was killed, or something could not be reached) is asked for again, each time after twice
the pause, however often that was.
"""

import json
import time
from collections.abc import Sequence

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from pydantic import FiniteFloat, TypeAdapter, ValidationError

from llmops_assets.jobs.take_arrivals import take_arrivals, take_files
from llmops_assets.operations.arrivals import Seen, batch_digest, look
from llmops_assets.resource import PlatformResource
from llmops_core.arrival_settings import WatchedPlace
from llmops_core.arrivals import Look

INTERVAL_SECONDS = 30
LONGEST_PAUSE_SECONDS = 3600
PLACE_TAG, BATCH_TAG = "llmops/place", "llmops/batch"
_LOOKS = TypeAdapter(dict[str, tuple[str, FiniteFloat]])


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
        seen = look(doors, watched, _looks(context), time.time())
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
    going = instance.get_runs(_runs({PLACE_TAG: watched.name}, NOT_FINISHED_STATUSES), limit=1)
    if going:
        return None, f"{len(seen.batch)} files wait for run {going[0].run_id[:8]}, which takes others"
    digest = batch_digest(seen.batch)[:16]
    tried = _runs({PLACE_TAG: watched.name, BATCH_TAG: digest})
    last = next(iter(instance.get_run_records(tried, limit=1)), None)
    if last is not None and (left := _left_of_pause(last.update_timestamp.timestamp(), instance.get_runs_count(tried))):
        return None, f"run {last.dagster_run.run_id[:8]} ended without an outcome; again in {left:.0f} s"
    request = RunRequest(
        run_key=f"arrivals:{watched.name}:{digest}:{last.dagster_run.run_id[:8] if last else 'first'}",
        run_config={"ops": {take_files.name: {"config": {"place": watched.name, "files": seen.batch}}}},
        tags={PLACE_TAG: watched.name, BATCH_TAG: digest},
    )
    return request, ""


def _runs(tags: dict[str, str], statuses: Sequence[DagsterRunStatus] = ()) -> RunsFilter:
    return RunsFilter(job_name=take_arrivals.name, tags=tags, statuses=list(statuses) or None)


def _left_of_pause(ended: float, tries: int) -> float:
    """Seconds until the next try; 0 when it is due, or when a clock that was set back would prolong the pause."""
    pause = min(INTERVAL_SECONDS * 2 ** min(tries, 30), LONGEST_PAUSE_SECONDS)
    left = ended + pause - time.time()
    return left if 0 < left <= LONGEST_PAUSE_SECONDS else 0


def _told(seen: Seen) -> list[str]:
    """What lies there and is not taken, and why."""
    lines = [f"{name}: changed lately; it is taken when it stays as it is" for name in seen.sorting.growing]
    lines += [f"{name}: {reason}" for name, reason in seen.sorting.unfit.items()]
    return lines + [f"refused: {reason}" for reason in seen.refused.values()]


def _looks(context: SensorEvaluationContext) -> dict[str, Look]:
    """What earlier ticks saw. Without it every file settles anew, so a cursor that cannot be read costs one pause."""
    try:
        return {
            name: Look(version, since)
            for name, (version, since) in _LOOKS.validate_json(context.cursor or "{}").items()
        }
    except ValidationError:
        context.log.warning("the cursor cannot be read; every file is looked at as if for the first time")
        return {}
