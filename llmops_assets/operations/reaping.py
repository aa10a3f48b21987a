"""Ending jobs that nobody waits for: of runs that are over, or that Dagster does not know."""

import time

from dagster import DagsterInstance, RunsFilter

from llmops_core.job_orphans import orphans
from resources.wiring import Platform


def reap(platform: Platform, instance: DagsterInstance, grace_seconds: float) -> list[str]:
    """Ends them; one sentence for each."""
    jobs = platform.jobs.going()
    if not jobs:
        return []
    asked = RunsFilter(run_ids=sorted({job.run_id for job in jobs}))
    records = instance.get_run_records(asked)
    now = time.time()
    ended = {
        record.dagster_run.run_id: (record.end_time or now) if record.dagster_run.is_finished else None
        for record in records
    }
    return [
        f"{job.name}: {why}" for job, why in orphans(jobs, ended, now, grace_seconds) if platform.jobs.end(job, why)
    ]
