"""The reaper beside a real Dagster instance: it ends jobs of runs that are over, and lets all others be."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from llmops_assets.operations.reaping import reap
from llmops_core.job_orphans import GoingJob
from resources.jobs import Jobs, LocalJobs


class RememberingJobs(LocalJobs):
    """A door with jobs that nobody is seen to wait for; `refuses` changed since they were listed."""

    def __init__(self, *runs: str, refuses: str = "") -> None:
        self._runs, self._refuses, self.ended = runs, refuses, list[str]()

    def going(self) -> list[GoingJob]:
        return [GoingJob(f"job-of-{run}", run, time.time() - 3600, "uid", "1") for run in self._runs]

    def end(self, job: GoingJob, why: str) -> bool:
        if job.run_id != self._refuses:
            self.ended.append(job.run_id)
        return job.run_id != self._refuses


def platform(jobs: Jobs) -> Any:
    return SimpleNamespace(jobs=jobs)


def run(instance: DagsterInstance, status: DagsterRunStatus) -> str:
    from dagster._core.test_utils import create_run_for_test

    made = create_run_for_test(instance, job_name="release", status=DagsterRunStatus.STARTED)
    if status is not DagsterRunStatus.STARTED:
        instance.report_run_failed(made)
    return made.run_id


@pytest.mark.parametrize(("grace", "ended"), [(-1.0, True), (300.0, False)])
def test_a_job_of_a_failed_run_went_on_or_was_ended_too_soon(grace: float, ended: bool) -> None:
    with DagsterInstance.ephemeral() as instance:
        going, failed = run(instance, DagsterRunStatus.STARTED), run(instance, DagsterRunStatus.FAILURE)
        jobs = RememberingJobs(going, failed, "unknown")
        told = reap(platform(jobs), instance, grace)
        assert jobs.ended == ([failed, "unknown"] if ended else ["unknown"])
        assert told[-1] == "job-of-unknown: run unknown is unknown"


def test_a_job_that_was_taken_over_meanwhile_was_told_as_ended() -> None:
    with DagsterInstance.ephemeral() as instance:
        assert reap(platform(RememberingJobs("unknown", refuses="unknown")), instance, 300) == []


def test_a_machine_without_a_cluster_asked_for_runs() -> None:
    assert reap(platform(LocalJobs()), SimpleNamespace(), 300) == []  # type: ignore[arg-type]
