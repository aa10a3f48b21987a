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
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dagster import AssetExecutionContext
from dagster._core.errors import DagsterExecutionInterruptedError

from llmops_core import job_names
from llmops_core.cost import Bill
from llmops_core.errors import EnvironmentLacks, LlmopsError, TransientError
from llmops_core.job_attempts import memory_for_next
from llmops_core.job_manifest import Attempt
from llmops_core.job_names import JobIdentity, identify
from llmops_core.job_orphans import GoingJob
from llmops_core.job_outcomes import ACTIONS, End, Outcome, is_finished
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.job_usage import PodUse
from llmops_core.train_job import DISTRIBUTED
from resources.job_attempt import AttemptWatch, judged
from resources.job_bills import JobBills, write_end
from resources.job_hearing import Hearing
from resources.job_objects import JobObjects
from resources.job_pod import VARIABLE, Order
from resources.job_roll import JobRoll, run_of
from resources.job_run import DagsterWaitingRun, WaitingRun
from resources.job_transport import INPUT, OUTPUT, AttemptRecord, JobRecords, JobStore, take_out
from resources.job_watch import JobWatch
from resources.jobs import Job, Jobs, Progress, failure
from resources.kubernetes_api import KubernetesApi, Manifest
from resources.object_store import NamedPlace

Result = TypeVar("Result")

REPORT_SECONDS = 2.0
PATIENCE_SECONDS = 1800.0  # of an outage of the cluster's API; the job itself goes on meanwhile
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class _Work:
    """One job in the hands of one step."""

    job: Job
    identity: JobIdentity
    store: JobStore
    records: JobRecords
    code: str
    inputs: dict[str, str]
    run: WaitingRun


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

    def run(self, job: Job, context: AssetExecutionContext, on_progress: Callable[[Progress], None]) -> None:
        self.run_for(job, DagsterWaitingRun(context), on_progress)

    def run_for(self, job: Job, run: WaitingRun, on_progress: Callable[[Progress], None]) -> None:
        work = self._sent(job, run)
        self._bill(work)
        with job.admitted(self._patiently(lambda: self._goes(work))):
            while (result := work.records.result()) is None:
                attempt = self._patiently(lambda: self._opened(work))
                end = self._followed(work, attempt, on_progress)
                self._bill(work)
                self._act(work, attempt, end)
        self._patiently(lambda: self._caught_up(work, result, on_progress))
        take_out(work.store.fetch(OUTPUT, result["folder"]), job.out)
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

    def _sent(self, job: Job, run: WaitingRun) -> _Work:
        job.work.mkdir(parents=True, exist_ok=True)
        store = JobStore(self._store_place, job.work / "exchange")
        inputs = {name: store.send(INPUT, folder) for name, folder in job.inputs.items()}
        asked, order = job.asked, {"config": dict(job.config), "inputs": inputs}
        identity = identify(asked.model, asked.stage, job.recipe, asked.fingerprint, order)
        code = store.send_code(job.code, job.work / "code")
        return _Work(job, identity, store, store.job(identity.fingerprint), code, inputs, run)

    def _goes(self, work: _Work) -> bool:
        """Whether this work was begun and has no end yet, or is done: it needs nothing that it has not got."""
        past = work.records.attempts()
        return work.records.result() is not None or bool(past and past[-1].end is None)

    def _opened(self, work: _Work) -> Attempt:
        """The attempt to follow, with a Job in the cluster: the newest that has no end yet, or a new one."""
        past = work.records.attempts()
        if past and past[-1].end is None:
            number, intent = past[-1].number, past[-1].intent
        else:
            work.job.may_begin()
            number = past[-1].number + 1 if past else 1
            intent = work.records.intend(number, self._intent(work, past))
        needs = replace(work.job.needs, memory_gb=float(intent["memory_gb"]))
        attempt = Attempt(work.identity, number, work.run.id, needs, self._environment(work, number), work.job.image)
        found = self._objects.make(attempt)
        if run_of(found) == job_names.label_value(work.run.id):
            return attempt
        return attempt if self._taken_over(work, attempt, found) else self._opened(work)

    def _intent(self, work: _Work, past: list[AttemptRecord]) -> dict[str, Any]:
        wanted, ladder = work.job.needs.memory_gb, self._place.memory_ladder_gb
        memory = memory_for_next([each.past for each in past], wanted, ladder, work.run.id)
        if memory is None:
            largest = max(wanted, *ladder, 0)
            raise EnvironmentLacks(
                f"{work.job.recipe} ran out of memory with {largest:g} GB, the largest size that jobs may have here; "
                "let it need less, or add a size to jobs.memory_ladder_gb"
            )
        return {
            **{"recipe": work.job.recipe, "config": dict(work.job.config), "inputs": work.inputs, "code": work.code},
            **{"memory_gb": memory, "environment": dict(work.job.environment), "run_id": work.run.id},
            "bill": self._bills.terms(work.job),
            "distributed": work.job.recipe in DISTRIBUTED,
            "checkpoint_seconds": self._place.checkpoint_seconds,
            "context": work.run.pipes_context(),
        }

    def _environment(self, work: _Work, number: int) -> dict[str, str]:
        where, fingerprint = self._store_place, work.identity.fingerprint
        order = Order(where.uri, where.endpoint, where.region, fingerprint, number, self._report_seconds)
        store = {"AWS_ENDPOINT_URL_S3": where.endpoint, "AWS_DEFAULT_REGION": where.region}
        return {VARIABLE: order.written(), **{name: value for name, value in store.items() if value}}

    def _taken_over(self, work: _Work, attempt: Attempt, found: Manifest) -> bool:
        """Makes a going job this run's own. One of another run that failed is written down, for a new attempt."""
        if is_finished(found) and work.records.result() is None:
            end = judged(self._api, self._objects.kind(attempt), work.records, attempt, [])
            used = self._bills.used(attempt.name, attempt.number, work.records)
            write_end(work.records, attempt.number, end, run_of(found), used)
            self._bill(work)
            self._objects.tidy(attempt)
            return False
        mine = {job_names.RUN_LABEL: job_names.label_value(work.run.id)}
        if not self._api.label(self._objects.kind(attempt), found, mine):
            raise TransientError(f"{attempt.name} changed while it was taken over")
        work.run.show(f"{work.job.recipe} goes on in {attempt.name}, which another run had begun")
        return True

    def _followed(self, work: _Work, attempt: Attempt, on_progress: Callable[[Progress], None]) -> End:
        """Waits until the attempt is over, shows what it says, and writes down how it ended."""
        name, number = attempt.name, attempt.number
        hearing = self._hearing(work, number, on_progress)
        watched = AttemptWatch(self._api, self._objects.kind(attempt), self._watch, work.records, attempt, self._place)
        try:
            with self._watch.watching(name):
                while (end := self._patiently(watched.look)) is None:
                    hearing.listen(watched.uids)
                    if (trouble := watched.news()) is not None:
                        work.run.show(f"{name} waits: {trouble}")
                    watched.wait(min(1.0, self._report_seconds))
                used = self._patiently(lambda: self._bills.used(name, number, work.records))  # while it is watched
            self._patiently(lambda: hearing.finish(watched.uids))
        except (DagsterExecutionInterruptedError, KeyboardInterrupt) as interruption:
            if isinstance(interruption, KeyboardInterrupt) or work.run.is_cancelled():
                self._cancel(work, attempt, End(Outcome.CANCELLED, f"run {work.run.id} was cancelled"))
            raise
        return self._recorded(work, attempt, end, used, watched.stopped)

    def _hearing(self, work: _Work, number: int, on_progress: Callable[[Progress], None]) -> Hearing:
        name = job_names.job_name(work.identity, number)
        seconds = self._report_seconds
        return Hearing(work.records, number, name, work.job.recipe, work.run, on_progress, seconds)

    def _caught_up(self, work: _Work, result: dict[str, Any], on_progress: Callable[[Progress], None]) -> None:
        """The result was made while nobody followed: what its attempt said is shown now, and its end written down."""
        number = int(result["attempt"])
        (made,) = (each for each in work.records.attempts() if each.number == number)
        if made.end is None:
            self._hearing(work, number, on_progress).finish(())
            end = End(Outcome.SUCCEEDED, "its result was published while nobody followed it")
            name = job_names.job_name(work.identity, number)
            write_end(work.records, number, end, work.run.id, self._bills.used(name, number, work.records))
            self._bill(work)
            self._objects.tidy(Attempt(work.identity, number, work.run.id, work.job.needs, {}))
            work.run.show(f"{job_names.job_name(work.identity, number)} {end.outcome.value}: {end.reason}")

    def _bill(self, work: _Work) -> None:
        """Every attempt that is over, whoever saw its end: the bill of a worker that died is written by the next."""
        for each in self._patiently(work.records.attempts):
            if (bill := self._bills.of_record(job_names.job_name(work.identity, each.number), each)) is not None:
                work.job.on_spent(bill.spent)

    def _recorded(self, work: _Work, attempt: Attempt, end: End, used: list[PodUse], stopped: bool) -> End:
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

    def _act(self, work: _Work, attempt: Attempt, end: End) -> None:
        """Returns when another attempt is due, or the result is there; raises what the end means otherwise."""
        if (error := failure(work.job.recipe, end, f" in {attempt.name}")) is not None:
            raise error
        if ACTIONS[end.outcome] == "again":
            time.sleep(min(2.0 ** (attempt.number - 1) - 1, LONGEST_PAUSE_SECONDS))

    def _cancel(self, work: _Work, attempt: Attempt, end: End) -> None:
        """Written down first; what fails here is left to the reaper."""
        try:
            found = self._api.get(self._objects.kind(attempt), attempt.name)
            mine = job_names.label_value(work.run.id)
            if found is not None and run_of(found) == mine:
                used = self._bills.used(attempt.name, attempt.number, work.records)
                write_end(work.records, attempt.number, end, work.run.id, used)
                self._bill(work)
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
