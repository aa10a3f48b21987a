"""Looking at one attempt of a job until it is over, and finding out why."""

import time
from collections.abc import Sequence

from llmops_core.job_manifest import Attempt, spread_of
from llmops_core.job_names import NAME_LABEL
from llmops_core.job_outcomes import (
    End,
    Evidence,
    Outcome,
    classify,
    condition_of,
    has_failed,
    is_finished,
    is_over,
    is_suspended,
    waits_for,
)
from llmops_core.job_settings import ClusterJobsPlace
from resources.cluster.kubernetes_api import EVENTS, PODS, Kind, KubernetesApi, Manifest
from resources.jobs.job_transport import JobRecords
from resources.jobs.job_watch import JobWatch

# A pod that is deleted and does not go: its node does not answer, and nobody can say when it will.
STUCK_SECONDS = 30.0
SETTLE_SECONDS = 10.0
LOG_LINES = 40


class AttemptWatch:
    """Call `look` after every `wait`; it returns the end, once. `stopped` then says whether nothing runs any more."""

    def __init__(
        self,
        api: KubernetesApi,
        kind: Kind,
        watch: JobWatch,
        records: JobRecords,
        attempt: Attempt,
        place: ClusterJobsPlace,
    ) -> None:
        self._api, self._kind, self._watch, self._records = api, kind, watch, records
        self._attempt, self._place, self._nodes = attempt, place, spread_of(attempt.needs, place).nodes
        self._earlier: set[str] = set()  # pods of before a suspension
        self._since: dict[str, float] = {}
        self._told = self._news = ""
        self._seen = 0
        self.stopped = True
        self.queued: Manifest | None = None  # the job as it was read, while its queue gives it no place

    @property
    def pods(self) -> list[Manifest]:
        found = self._watch.pods(self._attempt.name)
        return [pod for pod in found if pod["metadata"]["uid"] not in self._earlier]

    @property
    def uids(self) -> list[str]:
        return [pod["metadata"]["uid"] for pod in self._watch.pods(self._attempt.name)]

    def wait(self, timeout_seconds: float) -> None:
        self._seen = self._watch.wait(self._attempt.name, self._seen, timeout_seconds)

    def news(self) -> str | None:
        """Why it does not start, when that is new."""
        if self._news == self._told:
            return None
        self._told = self._news
        return self._news or None

    def look(self) -> End | None:
        if self._watch.trouble is not None:
            raise self._watch.trouble
        if not self._watch.synced:
            return None
        self.queued = None
        pods = self.pods
        if self._is_over(pods):
            return self._over(pods)
        if not pods:
            return self._without_pods()
        return self._pending(waits_for([pod for pod in pods if not is_over(pod)]))

    def _is_over(self, pods: Sequence[Manifest]) -> bool:
        ended = [is_over(pod) or self._watch.is_gone(pod) for pod in pods]
        if has_failed(pods) or any(self._watch.is_gone(pod) for pod in pods):
            # of several nodes all end when one does, and the one that explains why may be the last to be told of
            return all(ended) or self._lasted("one ended") > SETTLE_SECONDS
        leaving = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
        for pod in leaving:
            grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            if self._lasted(f"leaving {pod['metadata']['uid']}") > grace + STUCK_SECONDS:
                self.stopped = False
                return True
        return sum(ended) >= self._nodes

    def _over(self, pods: Sequence[Manifest]) -> End | None:
        job = self._api.get(self._kind, self._attempt.name)
        if job is not None and not is_finished(job) and condition_of(job, "FailureTarget") is None:
            # its queue took the place away, and gives another, or did so already: then there are pods too many
            oldest = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
            earlier = oldest if is_suspended(job) else oldest[: -self._nodes]
            if earlier:
                self._earlier |= {pod["metadata"]["uid"] for pod in earlier}
                self._since.pop("one ended", None)
                self._since.pop("no word", None)
                return None
            # the job's own word explains why its pods were deleted, and comes after
            deleted = any(pod["metadata"].get("deletionTimestamp") for pod in pods)
            if deleted and self.stopped and self._lasted("no word") < SETTLE_SECONDS:
                return None
        return judged(self._api, self._kind, self._records, self._attempt, pods)

    def _without_pods(self) -> End | None:
        job = self._watch.job(self._kind, self._attempt.name)
        if job is None:
            job = self._api.get(self._kind, self._attempt.name)  # it may be younger than the list
        if job is None or is_finished(job):
            return judged(self._api, self._kind, self._records, self._attempt, [])
        if is_suspended(job):
            self._since.pop("no pod", None)
            self.queued = job
            self._news = f"in the queue {self._place.queue}" if self._place.queue else "suspended"
            return None
        if self._lasted("no pod") > self._place.pending_seconds:
            told = [event for event in _events(self._api, job) if event.get("reason") == "FailedCreate"]
            why = str(told[-1].get("message")) if told else "the cluster made no pod for it"
            return self._given_up(End(Outcome.UNSCHEDULABLE, why))
        return None

    def _pending(self, why: End | None) -> End | None:
        self._since.pop("no pod", None)
        if why is None:
            self._since.pop("pending", None)
            self._news = ""
            return None
        self._news = why.reason
        return self._given_up(why) if self._lasted("pending") > self._place.pending_seconds else None

    def _given_up(self, why: End) -> End:
        self.stopped = False
        waited = f"{why.reason} (waited {self._place.pending_seconds} s, jobs.pending_seconds)"
        return End(why.outcome, waited)

    def _lasted(self, what: str) -> float:
        """Seconds since this was seen first."""
        return time.monotonic() - self._since.setdefault(what, time.monotonic())


def judged(api: KubernetesApi, kind: Kind, records: JobRecords, attempt: Attempt, pods: Sequence[Manifest]) -> End:
    """How an attempt ended that is over. `pods` as they were seen last; those that are still there are read if none."""
    if records.result() is not None:
        return classify(Evidence(None, pods, has_result=True))
    pods = pods or api.every(PODS, f"{NAME_LABEL}={attempt.name}")
    job = api.get(kind, attempt.name)
    found = [each for each in (job, *pods) if each is not None]
    events = [event for each in found for event in _events(api, each)]
    events += [] if pods else _events_of_vanished_pods(api, attempt.name)
    said = records.said(attempt.number)
    end = classify(Evidence(job, pods, events, said, has_result=records.result() is not None))
    if end.last_words or end.outcome is Outcome.SUCCEEDED or not pods:
        return end
    return End(end.outcome, end.reason, api.log(pods[-1]["metadata"]["name"], LOG_LINES))


def _events_of_vanished_pods(api: KubernetesApi, name: str) -> list[Manifest]:
    """Events outlive their pods, of which only the beginning of the name is known."""
    found = api.every(EVENTS, fields="involvedObject.kind=Pod")
    return [event for event in found if event["involvedObject"]["name"].startswith(f"{name}-")]


def _events(api: KubernetesApi, about: Manifest) -> list[Manifest]:
    return api.every(EVENTS, fields=f"involvedObject.uid={about['metadata']['uid']}")
