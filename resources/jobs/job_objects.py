"""What the cluster is given for an attempt of a job: a Job and perhaps its Service, or a TrainJob and its runtime.

Each has a name that says what it is of, so that making it twice makes it once: "already exists" is looked at, and
refused where somebody else made it.
"""

from llmops_core import job_manifest, job_names, train_job
from llmops_core.errors import IntegrityError, TransientError
from llmops_core.job_manifest import Attempt
from llmops_core.job_settings import ClusterJobsPlace
from resources.cluster.kubernetes_api import (
    JOBS,
    SERVICES,
    TRAIN_JOBS,
    TRAINING_RUNTIMES,
    AlreadyExists,
    Kind,
    KubernetesApi,
    Manifest,
    refuse_foreign,
)


class JobObjects:
    """Of the jobs in one place."""

    def __init__(self, place: ClusterJobsPlace, api: KubernetesApi) -> None:
        self._place, self._api = place, api

    @property
    def kinds(self) -> list[Kind]:
        """Of what attempts may be."""
        return [JOBS, TRAIN_JOBS] if self._place.workload == "train_job" else [JOBS]

    def kind(self, attempt: Attempt) -> Kind:
        return TRAIN_JOBS if train_job.is_train_job(attempt, self._place) else JOBS

    def make(self, attempt: Attempt) -> Manifest:
        """The object of this attempt, made now or by whoever was first."""
        kind = self.kind(attempt)
        if kind is TRAIN_JOBS:
            self._make_runtime(train_job.training_runtime(attempt, self._place))
            manifest = train_job.train_job(attempt, self._place)
        else:
            manifest = job_manifest.job(attempt, self._place)
        try:
            found = self._api.create(kind, manifest)
        except AlreadyExists:
            there = self._api.get(kind, attempt.name)
            if there is None:
                raise TransientError(f"{attempt.name} was deleted while it was looked at") from None
            found = there
        self._refuse_others(attempt, found)
        if kind is JOBS and (service := job_manifest.service(attempt, self._place, found["metadata"]["uid"])):
            self._serve(service, found["metadata"]["uid"])
        return found

    def find(self, attempt: Attempt) -> Manifest | None:
        return self._api.get(self.kind(attempt), attempt.name)

    def delete(self, attempt: Attempt) -> None:
        found = self.find(attempt)
        if found is not None:
            self._api.delete(self.kind(attempt), attempt.name, found["metadata"]["uid"])

    def tidy(self, attempt: Attempt) -> None:
        """What is left of an attempt whose end is written down. A Job goes when its time to live is over."""
        if self.kind(attempt) is TRAIN_JOBS:
            self.delete(attempt)

    def is_ours(self, found: Manifest) -> bool:
        """Whether it is an attempt of this platform, and not something else that bears its label."""
        labels, known = found["metadata"].get("labels") or {}, found["metadata"].get("annotations") or {}
        numbered = str(labels.get(job_names.ATTEMPT_LABEL, "")).isdecimal()
        named = labels.get(job_names.NAME_LABEL) == found["metadata"]["name"]
        store = known.get(job_names.STORE_ANNOTATION) == job_manifest.store_of(self._place)
        return named and numbered and store and job_names.FINGERPRINT_ANNOTATION in known

    def _refuse_others(self, attempt: Attempt, found: Manifest) -> None:
        annotations = found["metadata"].get("annotations") or {}
        known, store = (
            annotations.get(each) for each in (job_names.FINGERPRINT_ANNOTATION, job_names.STORE_ANNOTATION)
        )
        if known != attempt.identity.fingerprint:
            raise IntegrityError(f"the job {attempt.name} is of other work ({known}); look who made it, then delete it")
        if store != job_manifest.store_of(self._place):
            raise IntegrityError(
                f"the job {attempt.name} is of another platform, which exchanges its jobs in {store}; "
                "give this one a namespace of its own (jobs.namespace)"
            )

    def _make_runtime(self, runtime: Manifest) -> None:
        try:
            self._api.create(TRAINING_RUNTIMES, runtime)
        except AlreadyExists:
            there = self._api.get(TRAINING_RUNTIMES, runtime["metadata"]["name"])
            if there is None:
                raise TransientError(f"{runtime['metadata']['name']} was deleted while it was looked at") from None
            refuse_foreign(TRAINING_RUNTIMES, there, job_names.MANAGER)

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


def _owners(found: Manifest) -> list[Manifest]:
    return found["metadata"].get("ownerReferences") or []
