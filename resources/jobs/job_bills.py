"""What attempts of jobs on a cluster used, and for whom: from the cluster's pods, and from what pods left in the store.

What an attempt is billed by (who asked, how many GPUs each pod has, at what price) stands in its intent, so that the
bill of a job whose run is gone can be written by whoever finds it. What it used is written down with its end.
"""

import time
import uuid
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from llmops_core import job_manifest
from llmops_core.cost import RUNNING, Asked, Bill, Spent
from llmops_core.job_manifest import Attempt, Needs
from llmops_core.job_names import ATTEMPT_LABEL, FINGERPRINT_ANNOTATION, NAME_LABEL, RUN_LABEL, SELECTOR, JobIdentity
from llmops_core.job_outcomes import End, Outcome
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.job_usage import PodUse, by_month, span_seconds, together, use_of
from resources.cluster.kubernetes_api import PODS, Kind, KubernetesApi, Manifest
from resources.jobs.job_attempt import judged
from resources.jobs.job_transport import AttemptRecord, JobRecords, JobStore, Record
from resources.jobs.job_watch import JobWatch
from resources.jobs.jobs import Job
from resources.storage.object_store import NamedPlace

USED = "used"  # in the record of an end


class JobBills:
    def __init__(self, place: ClusterJobsPlace, api: KubernetesApi, store: NamedPlace, watch: JobWatch) -> None:
        self._place, self._api, self._store_place, self._watch = place, api, store, watch
        self._terms: dict[str, Mapping[str, Any]] = {}  # by the uid of the attempt's Job

    def terms(self, job: Job) -> dict[str, Any]:
        """For an attempt's intent: what it will be billed by, and an id. Work that is done again after the store forgot
        it has attempts of the same names, but not of the same ids."""
        rate = job_manifest.spent("", 0, "", 0, job.needs, self._place)
        pods = job_manifest.spread_of(job.needs, self._place).nodes
        asked = {"model": job.asked.model, "stage": job.asked.stage, "fingerprint": job.asked.fingerprint}
        price = {"gpu_count": rate.gpu_count, "gpu_type": rate.gpu_type, "price_per_hour": rate.price_per_hour}
        return {**asked, **price, "pods": pods, "attempt_id": uuid.uuid4().hex}

    def used(self, name: str, number: int, records: JobRecords) -> list[PodUse]:
        """Of every pod of an attempt that is known in any way, until now for one that still runs."""
        here = {pod["metadata"]["uid"]: pod for pod in self._watch.pods(name)}
        here |= {pod["metadata"]["uid"]: pod for pod in self._api.every(PODS, f"{NAME_LABEL}={name}")}
        now = time.time()
        known = [use for pod in here.values() if (use := use_of(pod, now)) is not None]
        seen = records.seen(number)
        if not seen.keys() - {use.pod for use in known}:
            return known
        said = records.said(number)
        return together(known, (_as_written(pod, times, said.get(pod, {})) for pod, times in seen.items()))

    def of_record(self, name: str, record: AttemptRecord) -> Bill | None:
        """Of an attempt whose end is written down."""
        if record.end is None or "bill" not in record.intent:
            return None
        uses = [PodUse(**use) for use in record.end.get(USED, ())]
        return _bill(name, record.number, str(record.end["outcome"]), record.intent["bill"], uses)

    def of_ended(self, kind: Kind, job: Manifest) -> Bill | None:
        """Of a Job that has ended, as it is written down or as the cluster tells. What it tells is then written
        down, but for a result, which speaks for itself: what is billed is over, and not made again under its name."""
        name, number, records = self.attempt_of(job)
        record = next((each for each in records.attempts() if each.number == number), None)
        if record is None or "bill" not in record.intent:
            return None
        if record.end is not None:
            return self.of_record(name, record)
        terms, labels = record.intent["bill"], job["metadata"]["labels"]
        fingerprint = job["metadata"]["annotations"][FINGERPRINT_ANNOTATION]
        identity = JobIdentity(terms["model"], terms["stage"], record.intent["recipe"], fingerprint)
        attempt = Attempt(identity, number, labels.get(RUN_LABEL, ""), Needs(), {})
        uses = self.used(name, number, records)
        end = judged(self._api, kind, records, attempt, [])
        if end.outcome is not Outcome.SUCCEEDED:
            write_end(records, number, end, attempt.run_id, uses)
        return _bill(name, number, end.outcome.value, terms, uses)

    def of_running(self, jobs: list[Manifest]) -> list[Bill]:
        """Of jobs that have not ended, by those of their pods that the cluster knows."""
        pods = self._api.every(PODS, SELECTOR) if jobs else []
        now, found = time.time(), list[Bill]()
        for job in jobs:
            name = job["metadata"]["name"]
            mine = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(NAME_LABEL) == name]
            uses = [use for pod in mine if (use := use_of(pod, now)) is not None]
            if uses and (terms := self._terms_of(job)):
                found.append(_bill(name, _number_of(job), RUNNING, terms, uses))
        return found

    def _terms_of(self, job: Manifest) -> Mapping[str, Any]:
        """Read once: an intent never changes."""
        uid = job["metadata"]["uid"]
        if uid not in self._terms:
            _, number, records = self.attempt_of(job)
            self._terms[uid] = records.intent(number).get("bill", {})
        return self._terms[uid]

    def attempt_of(self, job: Manifest) -> tuple[str, int, JobRecords]:
        """(its name, its number, what is written of its work)"""
        metadata = job["metadata"]
        return metadata["name"], _number_of(job), self._store.job(metadata["annotations"][FINGERPRINT_ANNOTATION])

    @cached_property
    def _store(self) -> JobStore:
        return JobStore(self._store_place, Path())  # nothing is sent or fetched


def write_end(records: JobRecords, number: int, end: End, run_id: str, used: list[PodUse]) -> Record:
    """With what it used, which nobody can tell later; the first word stands."""
    return records.ended(number, end, run_id=run_id, **{USED: [use.as_dict() for use in used]})


def _number_of(job: Manifest) -> int:
    return int(job["metadata"]["labels"][ATTEMPT_LABEL])


def _as_written(pod: str, seen: tuple[float, float], said: Mapping[str, Any]) -> PodUse:
    """By its own last words; one that had none counts from its first word to its last."""
    return PodUse(pod, float(said.get("began", seen[0])), float(said.get("ended", seen[1])))


def _bill(name: str, number: int, outcome: str, terms: Mapping[str, Any], uses: list[PodUse]) -> Bill:
    gpus = terms["gpu_count"] / terms["pods"]  # pods of one job are alike
    months = {month: round(seconds * gpus, 3) for month, seconds in by_month(uses).items()} if gpus else {}
    priced = terms["gpu_count"], terms["gpu_type"], terms["price_per_hour"]
    known = str(terms.get("attempt_id", ""))
    spent = Spent(name, number, outcome, round(span_seconds(uses), 1), *priced, months, known)
    return Bill(Asked(terms["model"], terms["stage"], terms["fingerprint"]), spent)
