"""Which jobs nobody waits for any more: they burn a GPU for nothing.

A job belongs to the run that its label names. A run that ended leaves its job for a moment, because the run that is
made in its place takes the job over; a run that is unknown (its storage was lost, or it was deleted) is over since the
job began. Whoever takes a job over changes its label, so a job that is judged here is ended only as it was read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class GoingJob:
    """A job that has not ended. Times are seconds since 1970; `version` is that of the object as it was read, of the
    kind that a cluster calls `kind`."""

    name: str
    run_id: str
    began: float
    uid: str
    version: str
    kind: str = "jobs"


def orphans(
    jobs: Iterable[GoingJob], ended: Mapping[str, float | None], now: float, grace_seconds: float
) -> list[tuple[GoingJob, str]]:
    """(job, why it is ended). `ended` has every run that is known: when it ended, None while it goes on."""
    found: list[tuple[GoingJob, str]] = []
    for job in jobs:
        if job.run_id not in ended:
            since, why = job.began, f"run {job.run_id} is unknown"
        elif (over := ended[job.run_id]) is not None:
            since, why = max(over, job.began), f"run {job.run_id} is over"
        else:
            continue
        if now - since > grace_seconds:
            found.append((job, why))
    return found
