"""The reaper beside a real Dagster instance: it ends jobs of runs that are over, and lets all others be."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, build_sensor_context

from llmops_assets.billing import write_down
from llmops_assets.operations.reaping import bill_ended, reap
from llmops_assets.sensors.jobs import reaper
from llmops_core.cost import Asked, Bill, Spent
from llmops_core.errors import EnvironmentLacks, TransientError
from llmops_core.job_orphans import GoingJob
from llmops_core.job_settings import ClusterJobsPlace
from resources.jobs.jobs import Jobs, LocalJobs
from resources.ledger.ledger import SqlLedger


class RememberingJobs(LocalJobs):
    """A door with jobs that nobody is seen to wait for; `refuses` changed since they were listed."""

    def __init__(self, *runs: str, refuses: str = "", age_seconds: float = 3600) -> None:
        self._age_seconds = age_seconds
        self._runs, self._refuses, self.killed, self.asked = runs, refuses, list[str](), list[str]()

    def going(self) -> list[GoingJob]:
        return [GoingJob(f"job-of-{run}", run, time.time() - self._age_seconds, "uid", "1") for run in self._runs]

    def end(self, job: GoingJob, why: str, on_bill: Callable[[Bill], None] = lambda bill: None) -> bool:
        if job.run_id != self._refuses:
            self.killed.append(job.run_id)
            on_bill(bill_of(job))
        return job.run_id != self._refuses

    def ended(self) -> list[GoingJob]:
        return self.going()

    def bill(self, job: GoingJob) -> Bill | None:
        self.asked.append(job.run_id)
        return bill_of(job)


def bill_of(job: GoingJob) -> Bill:
    return Bill(Asked("tiny", "weights", "f" * 64), Spent(job.name, 1, "cancelled", 3600, 1, "a100", 2.0))


def platform(jobs: Jobs, folder: Path) -> Any:
    return SimpleNamespace(jobs=jobs, ledger=SqlLedger(f"sqlite:///{folder}/ledger.db"))


def costs(place: Any) -> dict[str, float]:
    return {fact.body["job"]: fact.body["cost"] for fact in place.ledger.facts() if fact.kind == "spent"}


def run(instance: DagsterInstance, status: DagsterRunStatus) -> str:
    from dagster._core.test_utils import create_run_for_test

    made = create_run_for_test(instance, job_name="release", status=DagsterRunStatus.STARTED)
    if status is not DagsterRunStatus.STARTED:
        instance.report_run_failed(made)
    return made.run_id


@pytest.mark.parametrize(("grace", "ended"), [(-1.0, True), (300.0, False)])
def test_a_job_of_a_failed_run_went_on_or_was_ended_too_soon(grace: float, ended: bool, tmp_path: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        going, failed = run(instance, DagsterRunStatus.STARTED), run(instance, DagsterRunStatus.FAILURE)
        jobs = RememberingJobs(going, failed, "unknown")
        place = platform(jobs, tmp_path)
        told = reap(place, instance, grace)
        assert jobs.killed == ([failed, "unknown"] if ended else ["unknown"])
        assert told[-1] == "job-of-unknown: run unknown is unknown"
        assert costs(place) == {f"job-of-{name}": 2.0 for name in jobs.killed}, "what it used was not paid for"


def test_a_job_that_was_taken_over_meanwhile_was_told_as_ended(tmp_path: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        place = platform(RememberingJobs("unknown", refuses="unknown"), tmp_path)
        assert reap(place, instance, 300) == [] and costs(place) == {}


def test_a_job_that_ended_when_nobody_looked_was_billed_never_or_again(tmp_path: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        going = run(instance, DagsterRunStatus.STARTED)
        jobs = RememberingJobs(going, "unknown")
        place = platform(jobs, tmp_path)
        assert bill_ended(place, instance, 300) == ["job-of-unknown"] and costs(place) == {"job-of-unknown": 2.0}
        assert bill_ended(place, instance, 300) == [] and jobs.asked == ["unknown"]
        (fact,) = place.ledger.facts()
        assert (fact.model, fact.subject, fact.fingerprint) == ("tiny", "weights", "f" * 64)


def test_an_old_bill_paid_for_work_that_was_done_again(tmp_path: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        place = platform(RememberingJobs("unknown", age_seconds=-60), tmp_path)
        older = bill_of(place.jobs.going()[0])
        write_down(place, replace(older, spent=replace(older.spent, attempt_id="before")))
        assert bill_ended(place, instance, -120) == ["job-of-unknown"] and len(place.ledger.facts()) == 2


class BrokenJobs(RememberingJobs):
    """Of the job of the run "broken" nothing can be read."""

    def end(self, job: GoingJob, why: str, on_bill: Callable[[Bill], None] = lambda bill: None) -> bool:
        if job.run_id == "broken":
            raise EnvironmentLacks("the cluster refuses it")
        return super().end(job, why, on_bill)

    def bill(self, job: GoingJob) -> Bill | None:
        if job.run_id == "broken":
            raise ValueError("its record is torn")
        return super().bill(job)

    def forget(self, job: GoingJob) -> bool:
        self.asked.append(f"forget {job.run_id}")
        return True


def test_one_job_kept_the_others_from_their_end(tmp_path: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        jobs = BrokenJobs("broken", "unknown", "other")
        place = platform(jobs, tmp_path)
        with pytest.raises(TransientError, match="job-of-broken could not be ended: the cluster refuses it"):
            reap(place, instance, 300)
        assert jobs.killed == ["unknown", "other"]
        assert costs(place).keys() == {"job-of-unknown", "job-of-other"}


def test_one_job_kept_the_others_from_their_bill_or_a_spent_one_stayed_for_ever(tmp_path: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        jobs = BrokenJobs("broken", "unknown")
        place = platform(jobs, tmp_path)
        for _ in range(2):
            with pytest.raises(TransientError, match="could not be billed: its record is torn"):
                bill_ended(place, instance, 300)
        assert costs(place).keys() == {"job-of-unknown"}
        assert jobs.asked == ["unknown", "forget unknown", "forget unknown"]


def test_the_sensor_billed_nothing_when_a_job_could_not_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its tick must not look as if every job had its run."""
    with DagsterInstance.ephemeral() as instance:
        place = platform(BrokenJobs("broken", "unknown"), tmp_path)
        place.settings = SimpleNamespace(jobs=ClusterJobsPlace.model_construct(orphan_seconds=300))
        monkeypatch.setattr(place.jobs, "bill", bill_of)
        resource = SimpleNamespace(open=lambda: place)
        with (
            build_sensor_context(instance=instance) as context,
            pytest.raises(TransientError, match=r"job-of-broken could not be ended.*ended job-of-unknown.*billed job"),
        ):
            reaper._raw_fn(context, platform=resource)
        assert costs(place).keys() == {"job-of-unknown", "job-of-broken"}


def test_a_run_that_has_no_time_of_its_end_kept_its_job_for_ever(tmp_path: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        over = run(instance, DagsterRunStatus.FAILURE)
        (record,) = instance.get_run_records()
        before = record.update_timestamp - timedelta(hours=1)
        old = [record._replace(end_time=None, update_timestamp=before)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(instance, "get_run_records", lambda *_: old)
            assert reap(platform(RememberingJobs(over), tmp_path), instance, 300) == [
                f"job-of-{over}: run {over} is over"
            ]


def test_a_machine_without_a_cluster_asked_for_runs(tmp_path: Path) -> None:
    place = platform(LocalJobs(), tmp_path)
    assert reap(place, SimpleNamespace(), 300) == bill_ended(place, SimpleNamespace(), 300) == []  # type: ignore[arg-type]


def test_a_job_was_ended_whose_run_waits_in_the_queue_to_be_made_again(tmp_path: Path) -> None:
    from dagster._core.test_utils import create_run_for_test

    with DagsterInstance.ephemeral() as instance:
        over = run(instance, DagsterRunStatus.FAILURE)
        tags = {"dagster/root_run_id": over, "dagster/parent_run_id": over}
        again = create_run_for_test(instance, job_name="release", status=DagsterRunStatus.STARTING, tags=tags)
        jobs = RememberingJobs(over)
        assert reap(platform(jobs, tmp_path), instance, 0) == [] == jobs.killed
        instance.report_run_failed(again)
        assert len(reap(platform(jobs, tmp_path), instance, 0)) == 1
