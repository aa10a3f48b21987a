"""Jobs as Jobs of a Kubernetes cluster, which outlive whoever waits for them.

A step sends inputs and code to the object store, writes down what attempt it is about to make, makes a Job of that
name, and follows it. Killed between any two of these, the next one (the same step again, a restarted worker, a second
tick, another run of the same work) finds the same attempt and goes on: a Job of that name is attached to, a result that
is there is fetched. How an attempt ended is written down before it is acted on.

Dagster's own PipesK8sClient starts a bare pod of a random name and waits for it for ever when it is deleted. This
door speaks the same protocol, Dagster Pipes over S3.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from dagster import AssetExecutionContext
from dagster._core.errors import DagsterExecutionInterruptedError

from llmops_core import job_names
from llmops_core.cost import Bill
from llmops_core.errors import GateRefused, LlmopsError, TransientError
from llmops_core.job_manifest import Attempt
from llmops_core.job_names import identify
from llmops_core.job_orphans import GoingJob
from llmops_core.job_outcomes import ACTIONS, End, Outcome
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.job_usage import PodUse
from resources.cluster.kubernetes_api import KubernetesApi, Manifest
from resources.jobs.job_attempt import AttemptWatch
from resources.jobs.job_bills import JobBills, write_end
from resources.jobs.job_hearing import Hearing
from resources.jobs.job_objects import JobObjects
from resources.jobs.job_opening import Opening, Work
from resources.jobs.job_roll import JobRoll, run_of
from resources.jobs.job_run import DagsterWaitingRun, WaitingRun
from resources.jobs.job_transport import INPUT, OUTPUT, AttemptRecord, JobStore, take_out
from resources.jobs.job_watch import JobWatch
from resources.jobs.jobs import Job, Jobs, Progress, failure
from resources.storage.object_store import NamedPlace

Result = TypeVar("Result")

REPORT_SECONDS = 2.0
PATIENCE_SECONDS = 1800.0  # of an outage of the cluster's API; the job itself goes on meanwhile
LONGEST_PAUSE_SECONDS = 60.0
ASK_AGAIN_SECONDS = 60.0  # whether a job that waits in its queue may still begin


class KubernetesJobs(Jobs):
    """`store` names the exchange in an object store. One instance, and so one watch, serves all jobs of a process."""

    def __init__(
        self,
        place: ClusterJobsPlace,
        api: KubernetesApi,
        store: NamedPlace,
        report_seconds: float = REPORT_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._place, self._api, self._store_place = place, api, store
        self._report_seconds, self._patience_seconds = report_seconds, patience_seconds
        self._watch, self._objects = JobWatch(api), JobObjects(place, api)
        self._bills = JobBills(place, api, store, self._watch)
        self._roll = JobRoll(api, self._objects, self._bills)
        self._opening = Opening(place, api, store, self._objects, self._bills, report_seconds)

    def run(self, job: Job, context: AssetExecutionContext, on_progress: Callable[[Progress], None]) -> None:
        self.run_for(job, DagsterWaitingRun(context), on_progress)

    def run_for(self, job: Job, run: WaitingRun, on_progress: Callable[[Progress], None]) -> None:
        work = self._sent(job, run)
        self._patiently(lambda: self._opening.bill(work))
        over = self._patiently(lambda: self._opening.over(work))
        if over is not None:
            self._to_its_end(work, over, on_progress)
        with job.admitted(self._patiently(lambda: self._opening.goes(work))):
            while (result := self._patiently(work.records.result)) is None:
                self._to_its_end(work, self._patiently(lambda: self._opening.opened(work)), on_progress)
        self._patiently(lambda: self._caught_up(work, result, on_progress))
        take_out(self._patiently(lambda: work.store.fetch(OUTPUT, result["folder"])), job.out)
        with suppress(TransientError):  # what stays ends by the store's lifecycle
            work.records.forget_checkpoints()

    def going(self) -> list[GoingJob]:
        return self._roll.going()

    def end(self, job: GoingJob, why: str, on_bill: Callable[[Bill], None] = lambda bill: None) -> bool:
        return self._roll.end(job, why, on_bill)

    def ended(self) -> list[GoingJob]:
        return self._roll.ended()

    def bill(self, job: GoingJob) -> Bill | None:
        return self._roll.bill(job)

    def forget(self, job: GoingJob) -> bool:
        return self._roll.forget(job)

    def running(self) -> list[Bill]:
        return self._roll.running()

    def _sent(self, job: Job, run: WaitingRun) -> Work:
        job.work.mkdir(parents=True, exist_ok=True)
        store = JobStore(self._store_place, job.work / "exchange")
        inputs = {name: store.send(INPUT, folder) for name, folder in job.inputs.items()}
        asked, order = job.asked, {"config": dict(job.config), "inputs": inputs}
        identity = identify(asked.model, asked.stage, job.recipe, asked.fingerprint, order)
        code = store.send_code(job.code, job.work / "code")
        return Work(job, identity, store, store.job(identity.fingerprint), code, inputs, run)

    def _to_its_end(self, work: Work, attempt: Attempt, on_progress: Callable[[Progress], None]) -> None:
        """Returns when another attempt is due, or the result is there; raises what the end means otherwise."""
        end = self._followed(work, attempt, on_progress)
        self._patiently(lambda: self._opening.bill(work))
        if (error := failure(work.job.recipe, end, f" in {attempt.name}")) is not None:
            raise error
        if ACTIONS[end.outcome] == "again":
            time.sleep(min(2.0 ** min(attempt.number - 1, 10) - 1, LONGEST_PAUSE_SECONDS))

    def _followed(self, work: Work, attempt: Attempt, on_progress: Callable[[Progress], None]) -> End:
        """Waits until the attempt is over, shows what it says, and writes down how it ended."""
        name, number = attempt.name, attempt.number
        hearing = self._hearing(work, number, on_progress)
        watched = AttemptWatch(self._api, self._objects.kind(attempt), self._watch, work.records, attempt, self._place)
        try:
            with self._watch.watching(name):
                asked_at = time.monotonic()
                while (end := self._patiently(watched.look)) is None:
                    hearing.listen(watched.uids)
                    if (trouble := watched.news()) is not None:
                        work.run.show(f"{name} waits: {trouble}")
                    watched.wait(min(1.0, self._report_seconds))
                    if watched.queued is not None and time.monotonic() - asked_at > ASK_AGAIN_SECONDS:
                        asked_at = time.monotonic()
                        self._ask_again(work, attempt, watched.queued)
                used = self._patiently(lambda: self._bills.used(name, number, work.records))  # while it is watched
            self._patiently(lambda: hearing.finish(watched.uids))
        except (DagsterExecutionInterruptedError, KeyboardInterrupt) as interruption:
            if isinstance(interruption, KeyboardInterrupt) or work.run.is_cancelled():
                self._cancel(work, attempt, End(Outcome.CANCELLED, f"run {work.run.id} was cancelled"))
            raise
        return self._recorded(work, attempt, end, used, watched.stopped)

    def _ask_again(self, work: Work, attempt: Attempt, queued: Manifest) -> None:
        """A job that waits in its queue has cost nothing since it was asked: money that is gone meanwhile ends it, if
        it waits still."""
        try:
            work.job.may_begin()
        except TransientError:
            return  # it waits on
        except GateRefused as refused:
            used, metadata = self._bills.used(attempt.name, attempt.number, work.records), queued["metadata"]
            kind = self._objects.kind(attempt)
            if self._api.delete(kind, attempt.name, metadata["uid"], metadata["resourceVersion"]):
                write_end(work.records, attempt.number, End(Outcome.CANCELLED, refused.reason), work.run.id, used)
                self._opening.bill(work)
                raise

    def _hearing(self, work: Work, number: int, on_progress: Callable[[Progress], None]) -> Hearing:
        name = job_names.job_name(work.identity, number)
        seconds = self._report_seconds
        return Hearing(work.records, number, name, work.job.recipe, work.run, on_progress, seconds)

    def _caught_up(self, work: Work, result: dict[str, Any], on_progress: Callable[[Progress], None]) -> None:
        """The result was made while nobody followed: what its attempt said is shown now, and its end written down."""
        number = int(result["attempt"])
        made = next((each for each in work.records.attempts() if each.number == number), None)
        if made is not None and made.end is None:  # the store's lifecycle may have taken its record, which is older
            self._hearing(work, number, on_progress).finish(())
            end = End(Outcome.SUCCEEDED, "its result was published while nobody followed it")
            name = job_names.job_name(work.identity, number)
            write_end(work.records, number, end, work.run.id, self._bills.used(name, number, work.records))
            self._opening.bill(work)
            self._objects.tidy(Attempt(work.identity, number, work.run.id, work.job.needs, {}))
            work.run.show(f"{job_names.job_name(work.identity, number)} {end.outcome.value}: {end.reason}")

    def _recorded(self, work: Work, attempt: Attempt, end: End, used: list[PodUse], stopped: bool) -> End:
        recorded = self._patiently(lambda: write_end(work.records, attempt.number, end, work.run.id, used))
        end = End(Outcome(recorded["outcome"]), recorded["reason"], recorded["last_words"])
        record = AttemptRecord(attempt.number, work.records.intent(attempt.number), recorded)
        bill = self._bills.of_record(attempt.name, record)
        told = {**(bill.spent.as_body() if bill else {}), "memory_gb": attempt.needs.memory_gb}
        work.run.show(f"{attempt.name} {end.outcome.value}: {end.reason}", told)
        if not stopped:
            self._patiently(lambda: self._objects.delete(attempt))
        self._patiently(lambda: self._objects.tidy(attempt))
        return end

    def _cancel(self, work: Work, attempt: Attempt, end: End) -> None:
        """Written down first; what fails here is left to the reaper."""
        try:
            found = self._api.get(self._objects.kind(attempt), attempt.name)
            mine = job_names.label_value(work.run.id)
            if found is not None and run_of(found) == mine:
                used = self._bills.used(attempt.name, attempt.number, work.records)
                write_end(work.records, attempt.number, end, work.run.id, used)
                self._opening.bill(work)
                self._api.delete(self._objects.kind(attempt), attempt.name, found["metadata"]["uid"])
        except LlmopsError as error:
            work.run.show(f"{attempt.name} could not be ended, the reaper will: {error}")

    def _patiently(self, action: Callable[[], Result]) -> Result:
        """Tries again while cluster or store cannot answer, for as long as an outage may last."""
        until, pause = time.monotonic() + self._patience_seconds, 0.1
        while True:
            try:
                return action()
            except TransientError:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS / 3)
