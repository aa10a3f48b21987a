"""Which attempt of a job is to be followed: the newest that has no end yet, or a new one, with its Job in the cluster.

An attempt is one Job. It is intended first and made then, so one without a Job was either never made, and may be made
now if there is still money for it; or its pods spoke and its Job is gone, and then it is over. What is over is closed
before anything waits for GPUs: only what goes on has its own already.
"""

from dataclasses import dataclass, replace
from typing import Any

from llmops_core import job_names
from llmops_core.errors import EnvironmentLacks, Interrupted, TransientError
from llmops_core.job_attempts import memory_for_next
from llmops_core.job_manifest import Attempt
from llmops_core.job_names import JobIdentity
from llmops_core.job_outcomes import is_finished, is_over
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.train_job import DISTRIBUTED
from resources.cluster.kubernetes_api import PODS, KubernetesApi, Manifest
from resources.jobs.job_attempt import judged
from resources.jobs.job_bills import JobBills, write_end
from resources.jobs.job_objects import JobObjects
from resources.jobs.job_pod import VARIABLE, Order
from resources.jobs.job_roll import run_of
from resources.jobs.job_run import WaitingRun
from resources.jobs.job_transport import AttemptRecord, JobRecords, JobStore
from resources.jobs.jobs import Job
from resources.storage.object_store import NamedPlace


@dataclass(frozen=True)
class Work:
    """One job in the hands of one step."""

    job: Job
    identity: JobIdentity
    store: JobStore
    records: JobRecords
    code: str
    inputs: dict[str, str]
    run: WaitingRun


class Opening:
    def __init__(
        self,
        place: ClusterJobsPlace,
        api: KubernetesApi,
        store: NamedPlace,
        objects: JobObjects,
        bills: JobBills,
        report_seconds: float,
    ) -> None:
        self._place, self._api, self._store_place, self._objects, self._bills = place, api, store, objects, bills
        self._report_seconds = report_seconds

    def bill(self, work: Work) -> None:
        """Every attempt that is over, whoever saw its end: the bill of a worker that died is written by the next."""
        for each in work.records.attempts():
            if (bill := self._bills.of_record(job_names.job_name(work.identity, each.number), each)) is not None:
                work.job.on_spent(bill.spent)

    def over(self, work: Work) -> Attempt | None:
        """An attempt that is to be followed to its end, for it has no Job any more: that of this run, whose end nobody
        wrote down, or one whose pods go on. That of another run is no failure of this one: it is written down, and no
        more."""
        record = _open(work.records)
        if record is None or work.records.result() is not None:
            return None
        attempt = self._attempt(work, record.number, record.intent)
        found = self._objects.find(attempt)
        if found is None and self._has_pods(attempt):
            return attempt  # whose Job somebody took from under them, or which the settings made as another kind
        if not (is_finished(found) if found is not None else work.records.pods(record.number)):
            return None
        owner = run_of(found) if found is not None else job_names.label_value(str(record.intent["run_id"]))
        if owner == job_names.label_value(work.run.id):
            return attempt
        self._close(work, attempt, owner)
        return None

    def _has_pods(self, attempt: Attempt) -> bool:
        return not all(is_over(pod) for pod in self._api.every(PODS, f"{job_names.NAME_LABEL}={attempt.name}"))

    def goes(self, work: Work) -> bool:
        """Whether this work has a Job that goes on, or is done: it needs nothing that it has not got."""
        if work.records.result() is not None:
            return True
        record = _open(work.records)
        found = self._objects.find(self._attempt(work, record.number, record.intent)) if record is not None else None
        return found is not None and not is_finished(found)

    def opened(self, work: Work) -> Attempt:
        """The attempt to follow, with a Job in the cluster."""
        record = _open(work.records)
        if record is None:
            attempt = self._new(work)
        else:
            attempt = self._attempt(work, record.number, record.intent)
            if self._objects.find(attempt) is None:
                _ask(work)
        found = self._objects.make(attempt)
        if run_of(found) == job_names.label_value(work.run.id):
            return attempt
        return attempt if self._taken_over(work, attempt, found) else self.opened(work)

    def _new(self, work: Work) -> Attempt:
        _ask(work)
        past = work.records.attempts()
        number = past[-1].number + 1 if past else 1
        return self._attempt(work, number, work.records.intend(number, self._intent(work, past)))

    def _attempt(self, work: Work, number: int, intent: dict[str, Any]) -> Attempt:
        needs = replace(work.job.needs, memory_gb=float(intent["memory_gb"]))
        return Attempt(work.identity, number, work.run.id, needs, self._environment(work, number), work.job.image)

    def _intent(self, work: Work, past: list[AttemptRecord]) -> dict[str, Any]:
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

    def _environment(self, work: Work, number: int) -> dict[str, str]:
        where, fingerprint = self._store_place, work.identity.fingerprint
        order = Order(where.uri, where.endpoint, where.region, fingerprint, number, self._report_seconds)
        store = {"AWS_ENDPOINT_URL_S3": where.endpoint, "AWS_DEFAULT_REGION": where.region}
        return {VARIABLE: order.written(), **{name: value for name, value in store.items() if value}}

    def _taken_over(self, work: Work, attempt: Attempt, found: Manifest) -> bool:
        """Makes a going job this run's own. One of another run that failed is written down, for a new attempt."""
        if is_finished(found) and work.records.result() is None:
            self._close(work, attempt, run_of(found))
            return False
        mine = {job_names.RUN_LABEL: job_names.label_value(work.run.id)}
        if not self._api.label(self._objects.kind(attempt), found, mine):
            raise TransientError(f"{attempt.name} changed while it was taken over")
        work.run.show(f"{work.job.recipe} goes on in {attempt.name}, which another run had begun")
        return True

    def _close(self, work: Work, attempt: Attempt, run_id: str) -> None:
        """Writes down how an attempt ended that nobody followed."""
        end = judged(self._api, self._objects.kind(attempt), work.records, attempt, [])
        used = self._bills.used(attempt.name, attempt.number, work.records)
        write_end(work.records, attempt.number, end, run_id, used)
        self.bill(work)
        self._objects.tidy(attempt)


def _open(records: JobRecords) -> AttemptRecord | None:
    """The newest attempt, if nobody wrote down how it ended."""
    past = records.attempts()
    return past[-1] if past and past[-1].end is None else None


def _ask(work: Work) -> None:
    """Before a Job is made: whether anybody waits for it, and may pay for it. A worker may outlive its run, which was
    ended without it; what it began would be ended too, again and again."""
    if work.run.is_over():
        raise Interrupted(f"run {work.run.id} is over: it begins no {work.job.recipe} any more")
    work.job.may_begin()
