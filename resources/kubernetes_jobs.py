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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from dagster import AssetExecutionContext
from dagster._core.errors import DagsterExecutionInterruptedError

from llmops_core import job_manifest, job_names
from llmops_core.errors import EnvironmentLacks, IntegrityError, LlmopsError, TransientError
from llmops_core.job_attempts import memory_for_next, ran_seconds
from llmops_core.job_manifest import Attempt
from llmops_core.job_names import JobIdentity, identify
from llmops_core.job_orphans import GoingJob
from llmops_core.job_outcomes import ACTIONS, End, Outcome, is_finished
from llmops_core.job_settings import ClusterJobsPlace
from resources.job_attempt import AttemptWatch, judged
from resources.job_hearing import Hearing
from resources.job_pod import VARIABLE, Order
from resources.job_run import DagsterWaitingRun, WaitingRun
from resources.job_transport import INPUT, OUTPUT, AttemptRecord, JobRecords, JobStore, take_out
from resources.job_watch import JobWatch
from resources.jobs import Job, Jobs, Progress, failure
from resources.kubernetes_api import (
    JOBS,
    SERVICES,
    TRAIN_JOBS,
    AlreadyExists,
    Kind,
    KubernetesApi,
    Manifest,
    refuse_foreign,
)
from resources.object_store import NamedPlace

Result = TypeVar("Result")

REPORT_SECONDS = 2.0
PATIENCE_SECONDS = 1800.0  # of an outage of the cluster's API; the job itself goes on meanwhile
LONGEST_PAUSE_SECONDS = 60.0
DISTRIBUTED = ("pretrain", "finetune")


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
        self._watch = JobWatch(api)

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
        kinds = [JOBS, TRAIN_JOBS] if self._place.workload == "train_job" else [JOBS]
        found = [each for kind in kinds for each in self._api.every(kind, job_names.SELECTOR)]
        return [_going(each) for each in found if _is_a_job(each) and not is_finished(each) and not _is_leaving(each)]

    def end(self, job: GoingJob, why: str) -> bool:
        """Deleted first, only as it was read: a run that takes it over meanwhile keeps it. Then written down."""
        for kind in (JOBS, TRAIN_JOBS) if self._place.workload == "train_job" else (JOBS,):
            found = self._api.get(kind, job.name)
            if found is not None and self._api.delete(kind, job.name, job.uid, job.version):
                metadata = found["metadata"]
                store = JobStore(self._store_place, Path())  # nothing is sent or fetched
                records = store.job(metadata["annotations"][job_names.FINGERPRINT_ANNOTATION])
                number = int(metadata["labels"][f"{job_names.LABEL_DOMAIN}/attempt"])
                seconds = round(time.time() - job.began, 1)
                records.ended(number, End(Outcome.CANCELLED, why), run_id=job.run_id, seconds=seconds)
                return True
        return False

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
            number = past[-1].number + 1 if past else 1
            intent = work.records.intend(number, self._intent(work, past))
        needs = replace(work.job.needs, memory_gb=float(intent["memory_gb"]))
        attempt = Attempt(work.identity, number, work.run.id, needs, self._environment(work, number))
        found = self._made(attempt)
        if _run_of(found) == job_names.label_value(work.run.id):
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
            "distributed": work.job.recipe in DISTRIBUTED,
            "checkpoint_seconds": self._place.checkpoint_seconds,
            "context": work.run.pipes_context(),
        }

    def _environment(self, work: _Work, number: int) -> dict[str, str]:
        where, fingerprint = self._store_place, work.identity.fingerprint
        order = Order(where.uri, where.endpoint, where.region, fingerprint, number, self._report_seconds)
        store = {"AWS_ENDPOINT_URL_S3": where.endpoint, "AWS_DEFAULT_REGION": where.region}
        return {VARIABLE: order.written(), **{name: value for name, value in store.items() if value}}

    def _kind(self, attempt: Attempt) -> Kind:
        return TRAIN_JOBS if self._place.workload == "train_job" and attempt.needs.gpu_count else JOBS

    def _made(self, attempt: Attempt) -> Manifest:
        """The Job of this attempt, made now or by whoever was first."""
        kind = self._kind(attempt)
        try:
            found = self._api.create(kind, job_manifest.job(attempt, self._place))
        except AlreadyExists:
            there = self._api.get(kind, attempt.name)
            if there is None:
                raise TransientError(f"{attempt.name} was deleted while it was looked at") from None
            found = there
        known = (found["metadata"].get("annotations") or {}).get(job_names.FINGERPRINT_ANNOTATION)
        if known != attempt.identity.fingerprint:
            raise IntegrityError(f"the job {attempt.name} is of other work ({known}); look who made it, then delete it")
        if (service := job_manifest.service(attempt, self._place, found["metadata"]["uid"])) is not None:
            self._serve(service, found["metadata"]["uid"])
        return found

    def _serve(self, service: Manifest, job_uid: str) -> None:
        """The Service by which the pods of this very Job find each other."""
        try:
            self._api.create(SERVICES, service)
        except AlreadyExists:
            name = service["metadata"]["name"]
            there = self._api.get(SERVICES, name)
            if there is None or not any(each["uid"] == job_uid for each in _owners(there)):
                if there is not None:
                    refuse_foreign(SERVICES, there, job_names.MANAGER)
                raise TransientError(f"the Service {name} of a job that was deleted does not go") from None

    def _taken_over(self, work: _Work, attempt: Attempt, found: Manifest) -> bool:
        """Makes a going job this run's own. One of another run that failed is written down, for a new attempt."""
        if is_finished(found) and work.records.result() is None:
            end = judged(self._api, self._kind(attempt), work.records, attempt, [])
            work.records.ended(attempt.number, end, run_id=_run_of(found))
            return False
        mine = {job_names.RUN_LABEL: job_names.label_value(work.run.id)}
        if not self._api.label(self._kind(attempt), found, mine):
            raise TransientError(f"{attempt.name} changed while it was taken over")
        work.run.show(f"{work.job.recipe} goes on in {attempt.name}, which another run had begun")
        return True

    def _followed(self, work: _Work, attempt: Attempt, on_progress: Callable[[Progress], None]) -> End:
        """Waits until the attempt is over, shows what it says, and writes down how it ended."""
        name, number = attempt.name, attempt.number
        hearing = self._hearing(work, number, on_progress)
        watched = AttemptWatch(self._api, self._kind(attempt), self._watch, work.records, attempt, self._place)
        try:
            with self._watch.watching(name):
                while (end := self._patiently(watched.look)) is None:
                    hearing.listen(watched.uids)
                    if (trouble := watched.news()) is not None:
                        work.run.show(f"{name} waits: {trouble}")
                    watched.wait(min(1.0, self._report_seconds))
            self._patiently(lambda: hearing.finish(watched.uids))
        except (DagsterExecutionInterruptedError, KeyboardInterrupt) as interruption:
            if isinstance(interruption, KeyboardInterrupt) or work.run.is_cancelled():
                self._cancel(work, attempt, End(Outcome.CANCELLED, f"run {work.run.id} was cancelled"))
            raise
        return self._recorded(work, attempt, end, watched)

    def _hearing(self, work: _Work, number: int, on_progress: Callable[[Progress], None]) -> Hearing:
        name = job_names.job_name(work.identity, number)
        seconds = self._report_seconds
        return Hearing(work.store, work.records, number, name, work.job.recipe, work.run, on_progress, seconds)

    def _caught_up(self, work: _Work, result: dict[str, Any], on_progress: Callable[[Progress], None]) -> None:
        """The result was made while nobody followed: what its attempt said is shown now, and its end written down."""
        number = int(result["attempt"])
        (made,) = (each for each in work.records.attempts() if each.number == number)
        if made.end is None:
            self._hearing(work, number, on_progress).finish(())
            end = End(Outcome.SUCCEEDED, "its result was published while nobody followed it")
            seconds = float(work.records.said(number).get(result.get("pod", ""), {}).get("seconds", 0))
            work.records.ended(number, end, run_id=work.run.id, seconds=seconds)
            self._bill(work)
            work.run.show(f"{job_names.job_name(work.identity, number)} {end.outcome.value}: {end.reason}")

    def _bill(self, work: _Work) -> None:
        """Every attempt that is over, whoever saw its end: the bill of a worker that died is written by the next."""
        for each in self._patiently(work.records.attempts):
            if each.end is not None:
                name = job_names.job_name(work.identity, each.number)
                outcome, seconds = each.end["outcome"], float(each.end.get("seconds", 0))
                needs = work.job.needs
                work.job.on_spent(job_manifest.spent(name, each.number, outcome, seconds, needs, self._place))

    def _recorded(self, work: _Work, attempt: Attempt, end: End, watched: AttemptWatch) -> End:
        seconds = ran_seconds(watched.pods, datetime.now(UTC))
        recorded = self._patiently(
            lambda: work.records.ended(attempt.number, end, run_id=work.run.id, seconds=round(seconds, 1))
        )
        end = End(Outcome(recorded["outcome"]), recorded["reason"], recorded["last_words"])
        bill = job_manifest.spent(attempt.name, attempt.number, end.outcome.value, seconds, attempt.needs, self._place)
        told = {**bill.as_body(), "memory_gb": attempt.needs.memory_gb}
        work.run.show(f"{attempt.name} {end.outcome.value}: {end.reason}", told)
        if not watched.stopped:
            self._patiently(lambda: self._delete(attempt))
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
            found = self._api.get(self._kind(attempt), attempt.name)
            mine = job_names.label_value(work.run.id)
            if found is not None and _run_of(found) == mine:
                seconds = ran_seconds(self._watch.pods(attempt.name), datetime.now(UTC))
                work.records.ended(attempt.number, end, run_id=work.run.id, seconds=round(seconds, 1))
                self._bill(work)
                self._api.delete(self._kind(attempt), attempt.name, found["metadata"]["uid"])
        except LlmopsError as error:
            work.run.show(f"{attempt.name} could not be ended, the reaper will: {error}")

    def _delete(self, attempt: Attempt) -> None:
        found = self._api.get(self._kind(attempt), attempt.name)
        if found is not None:
            self._api.delete(self._kind(attempt), attempt.name, found["metadata"]["uid"])

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


def _going(job: Manifest) -> GoingJob:
    metadata = job["metadata"]
    began = datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00")).timestamp()
    return GoingJob(metadata["name"], _run_of(job), began, metadata["uid"], metadata["resourceVersion"])


def _run_of(job: Manifest) -> str:
    return (job["metadata"].get("labels") or {}).get(job_names.RUN_LABEL, "")


def _is_a_job(found: Manifest) -> bool:
    """Whether it is an attempt of ours, and not something else that bears the platform's label."""
    return job_names.FINGERPRINT_ANNOTATION in (found["metadata"].get("annotations") or {})


def _owners(found: Manifest) -> list[Manifest]:
    return found["metadata"].get("ownerReferences") or []


def _is_leaving(job: Manifest) -> bool:
    return job["metadata"].get("deletionTimestamp") is not None
