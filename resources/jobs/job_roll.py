"""All our jobs that a cluster knows, for whoever looks after them without having asked for any: the reaper, the budget.

They are read as they are at this moment. What is ended is ended only as it was read, because a run may take a job over
at any time.
"""

from collections.abc import Callable
from datetime import datetime

from llmops_core import job_names
from llmops_core.cost import Bill
from llmops_core.errors import EnvironmentLacks
from llmops_core.job_orphans import GoingJob
from llmops_core.job_outcomes import End, Outcome, is_finished
from resources.cluster.kubernetes_api import JOBS, TRAIN_JOBS, Kind, KubernetesApi, Manifest
from resources.jobs.job_bills import JobBills, write_end
from resources.jobs.job_objects import JobObjects

KINDS = {kind.plural: kind for kind in (JOBS, TRAIN_JOBS)}


class JobRoll:
    def __init__(self, api: KubernetesApi, objects: JobObjects, bills: JobBills) -> None:
        self._api, self._objects, self._bills = api, objects, bills

    def going(self) -> list[GoingJob]:
        return [_going(each) for each in self._jobs() if not is_finished(each) and not _is_leaving(each)]

    def ended(self) -> list[GoingJob]:
        return [_going(each) for each in self._jobs() if is_finished(each)]

    def running(self) -> list[Bill]:
        return self._bills.of_running([each for each in self._jobs() if not is_finished(each)])

    def end(self, job: GoingJob, why: str, on_bill: Callable[[Bill], None]) -> bool:
        """Deleted first, only as it was read: a run that takes it over meanwhile keeps it. Then written down."""
        found = self._found(job)
        if found is None:
            return False
        name, number, records = self._bills.attempt_of(found)
        used = self._bills.used(name, number, records)  # the pods go with it
        if not self._api.delete(KINDS[job.kind], name, job.uid, job.version):
            return False
        write_end(records, number, End(Outcome.CANCELLED, why), job.run_id, used)
        for record in records.attempts():
            if record.number == number and (bill := self._bills.of_record(name, record)) is not None:
                on_bill(bill)
        return True

    def bill(self, job: GoingJob) -> Bill | None:
        found = self._found(job)
        return self._bills.of_ended(KINDS[job.kind], found) if found is not None else None

    def forget(self, job: GoingJob) -> bool:
        """A TrainJob, which has no time to live. As it was read: what was billed is what is removed."""
        return job.kind == TRAIN_JOBS.plural and self._api.delete(TRAIN_JOBS, job.name, job.uid, job.version)

    def _found(self, job: GoingJob) -> Manifest | None:
        found = self._api.get(KINDS[job.kind], job.name)
        return found if found is not None and found["metadata"]["uid"] == job.uid else None

    def _jobs(self) -> list[Manifest]:
        return [each for kind in KINDS.values() for each in self._of(kind) if self._objects.is_ours(each)]

    def _of(self, kind: Kind) -> list[Manifest]:
        """Of a kind that the settings do not name (any more) there may be none here, and no right to look."""
        try:
            found = self._api.every(kind, job_names.SELECTOR)
        except EnvironmentLacks:
            if kind in self._objects.kinds:
                raise
            return []
        return [{**each, "kind": kind.plural} for each in found]  # which lists leave out


def run_of(job: Manifest) -> str:
    """The run that a job belongs to, as its label has it."""
    return (job["metadata"].get("labels") or {}).get(job_names.RUN_LABEL, "")


def _going(job: Manifest) -> GoingJob:
    metadata = job["metadata"]
    began = datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00")).timestamp()
    return GoingJob(metadata["name"], run_of(job), began, metadata["uid"], metadata["resourceVersion"], job["kind"])


def _is_leaving(job: Manifest) -> bool:
    return job["metadata"].get("deletionTimestamp") is not None
