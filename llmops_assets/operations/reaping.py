"""Ending jobs that nobody waits for, of runs that are over or that Dagster does not know, and billing all of them."""

import time
from collections.abc import Sequence

from dagster import DagsterInstance, DagsterRun, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from llmops_assets.billing import billed_at, write_down
from llmops_core.job_orphans import GoingJob, orphans
from resources.wiring import Platform


def reap(platform: Platform, instance: DagsterInstance, grace_seconds: float) -> list[str]:
    """Ends them; one sentence for each."""
    jobs = platform.jobs.going()
    found = orphans(jobs, _ends(instance, jobs), time.time(), grace_seconds)
    return [
        f"{job.name}: {why}"
        for job, why in found
        if platform.jobs.end(job, why, lambda bill: write_down(platform, bill))
    ]


def bill_ended(platform: Platform, instance: DagsterInstance, grace_seconds: float) -> list[str]:
    """Bills jobs that ended by themselves when nobody followed them any more; the names of those that were billed."""
    jobs = platform.jobs.ended()
    left = orphans(jobs, _ends(instance, jobs), time.time(), grace_seconds)
    if not left:
        return []
    billed = billed_at(platform)
    told: list[str] = []
    for job, _ in left:
        if billed.get(job.name, 0) < job.began and (bill := platform.jobs.bill(job)) is not None:
            write_down(platform, bill)
            told.append(job.name)
    return told


def _ends(instance: DagsterInstance, jobs: Sequence[GoingJob]) -> dict[str, float | None]:
    """{run: when it ended, None while it or one in its place goes on} of the runs of these jobs that Dagster knows. The
    run that is made in place of one whose worker died may wait in the queue for long."""
    if not jobs:
        return {}
    asked = RunsFilter(run_ids=sorted({job.run_id for job in jobs}))
    now = time.time()
    return {
        record.dagster_run.run_id: None if _goes_on(instance, record.dagster_run) else (record.end_time or now)
        for record in instance.get_run_records(asked)
    }


def _goes_on(instance: DagsterInstance, run: DagsterRun) -> bool:
    if not run.is_finished:
        return True
    root = run.root_run_id or run.run_id
    again = RunsFilter(tags={ROOT_RUN_ID_TAG: root}, statuses=list(NOT_FINISHED_STATUSES))
    return bool(instance.get_runs(again, limit=1))
