"""Ending jobs that nobody waits for, of runs that are over or that Dagster does not know, and billing all of them.

Each job is looked at for itself: one that cannot be ended, or whose records are broken, keeps no other from its end.
What failed is raised when all were looked at.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from dagster import DagsterInstance, DagsterRun, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from llmops_assets.billing import billed_at, write_down
from llmops_core.errors import TransientError
from llmops_core.job_orphans import GoingJob, orphans
from resources.wiring import Platform


def reap(platform: Platform, instance: DagsterInstance, grace_seconds: float) -> list[str]:
    """Ends them; one sentence for each. Raises TransientError for those that it could not end."""
    jobs = platform.jobs.going()

    def end(job: GoingJob, why: str) -> str:
        ended = platform.jobs.end(job, why, lambda bill: write_down(platform, bill))
        return f"{job.name}: {why}" if ended else ""

    return _each(orphans(jobs, _ends(instance, jobs), time.time(), grace_seconds), end, "ended")


def bill_ended(platform: Platform, instance: DagsterInstance, grace_seconds: float) -> list[str]:
    """Bills jobs that ended by themselves when nobody followed them any more, and removes what nothing else does; the
    names of those that were billed. Raises TransientError for those that it could not bill."""
    jobs = platform.jobs.ended()
    left = orphans(jobs, _ends(instance, jobs), time.time(), grace_seconds)
    billed = billed_at(platform) if left else {}

    def settle(job: GoingJob, why: str) -> str:
        known = billed.get(job.name, 0) >= job.began
        bill = None if known else platform.jobs.bill(job)
        if bill is not None:
            write_down(platform, bill)
        platform.jobs.forget(job)
        return job.name if bill is not None else ""

    return _each(left, settle, "billed")


def _each(found: Iterable[tuple[GoingJob, str]], act: Callable[[GoingJob, str], str], done: str) -> list[str]:
    told: list[str] = []
    failed: list[str] = []
    for job, why in found:
        try:
            told.append(act(job, why))
        except Exception as error:  # of whatever kind, the next one has nothing to do with it
            logging.getLogger(__name__).exception("%s could not be %s", job.name, done)
            failed.append(f"{job.name} could not be {done}: {error}")
    told = list(filter(None, told))
    if failed:
        raise TransientError("; ".join([*failed, *(f"{done} {each}" for each in told)]))
    return told


def _ends(instance: DagsterInstance, jobs: Sequence[GoingJob]) -> dict[str, float | None]:
    """{run: when it ended, None while it or one in its place goes on} of the runs of these jobs that Dagster knows. The
    run that is made in place of one whose worker died may wait in the queue for long."""
    if not jobs:
        return {}
    asked = RunsFilter(run_ids=sorted({job.run_id for job in jobs}))
    return {
        # one that has no time of its end was changed last when it ended
        record.dagster_run.run_id: None
        if _goes_on(instance, record.dagster_run)
        else (record.end_time or record.update_timestamp.timestamp())
        for record in instance.get_run_records(asked)
    }


def _goes_on(instance: DagsterInstance, run: DagsterRun) -> bool:
    if not run.is_finished:
        return True
    root = run.root_run_id or run.run_id
    again = RunsFilter(tags={ROOT_RUN_ID_TAG: root}, statuses=list(NOT_FINISHED_STATUSES))
    return bool(instance.get_runs(again, limit=1))
