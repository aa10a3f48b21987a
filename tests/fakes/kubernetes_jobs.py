"""The job controller of the stand-in: one job is judged from its pods, as `batch/v1` in Kubernetes 1.36 does it.

A finished pod is counted once: it keeps the finalizer `batch.kubernetes.io/job-tracking` until the job's status has it.
A deleted pod counts as failed. A job ends in two moves, which watchers see: the interim condition (`FailureTarget`,
`SuccessCriteriaMet`), and, when no pod is terminating any more, the final one (`Failed`, `Complete`).
"""

import copy
from collections.abc import Iterable

from tests.fakes.kubernetes_clock import parsed
from tests.fakes.kubernetes_deletion import Deletion
from tests.fakes.kubernetes_engine import Controller, controlled_by
from tests.fakes.kubernetes_errors import ApiError
from tests.fakes.kubernetes_events import Recorder
from tests.fakes.kubernetes_job_pods import INDEX, TRACKING, pod_of, ranges_of
from tests.fakes.kubernetes_job_state import (
    condition,
    count,
    has_ended,
    is_finished,
    is_leaving,
    is_over,
    restarts_exceeded,
    succeeded_indexes,
)
from tests.fakes.kubernetes_kinds import JOBS, PODS
from tests.fakes.kubernetes_store import Change, Json, Key, key_of
from tests.fakes.kubernetes_verbs import Verbs

SOURCE = "job-controller"
BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 10.0, 600.0
BACKOFF_MESSAGE = "Job has reached the specified backoff limit"
DEADLINE_MESSAGE = "Job was active longer than specified deadline"
COMPLETIONS_MESSAGE = "Reached expected number of succeeded pods"


class JobController(Controller):
    def __init__(self, verbs: Verbs, deletion: Deletion, recorder: Recorder) -> None:
        self._verbs, self._deletion, self._recorder = verbs, deletion, recorder
        self._store, self._clock = verbs.store, verbs.store.clock
        self._failures: dict[str, tuple[int, float]] = {}  # by uid: since the last success, time of the last

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.kind == JOBS:
            return [key_of(change.found)]
        if change.kind == PODS and (key := controlled_by(change.found, "Job")):
            return [key]
        return []

    def reconcile(self, key: Key) -> float | None:
        job = self._store.get(JOBS, key)
        if job is None or is_finished(job):
            self._release_orphans(key)
            return None
        if job["spec"].get("managedBy", "kubernetes.io/job-controller") != "kubernetes.io/job-controller":
            return None
        return self._sync(copy.deepcopy(job))

    def _release_orphans(self, key: Key) -> None:
        """Pods whose job is gone or over may go."""
        for pod in self._store.each(PODS):
            if controlled_by(pod, "Job") == key and TRACKING in (pod["metadata"].get("finalizers") or []):
                self._release(pod)

    def _pods(self, job: Json) -> list[Json]:
        return [found for kind, found in self._store.owned_by(job["metadata"]["uid"]) if kind == PODS]

    def _sync(self, job: Json) -> float | None:
        status, spec = job["status"], job["spec"]
        status.setdefault("uncountedTerminatedPods", {})
        if "startTime" not in status and not spec.get("suspend"):
            status["startTime"] = self._clock.stamp()
        pods = self._pods(job)
        ended = self._verdict(job, pods)
        if ended is None and "deletionTimestamp" not in job["metadata"]:
            again = self._manage(job, pods)
            ended = self._completed(job)
        else:
            again = None
            if ended is not None:
                self._delete(job, [pod for pod in self._pods(job) if not is_over(pod) and not is_leaving(pod)])
        self._count(job, ended)
        return min((wait for wait in (again, self._until_deadline(job)) if wait is not None), default=None)

    def _verdict(self, job: Json, pods: list[Json]) -> Json | None:
        """The interim condition of a job that must end now."""
        for name in ("SuccessCriteriaMet", "FailureTarget"):
            if held := condition(job, name):
                return held
        failed = job["status"].get("failed", 0) + len(self._new(job, pods, failed=True))
        if failed > job["spec"]["backoffLimit"] or restarts_exceeded(job, pods):
            return self._condition("FailureTarget", "BackoffLimitExceeded", BACKOFF_MESSAGE)
        left = self._until_deadline(job)
        if left is not None and left <= 0:
            return self._condition("FailureTarget", "DeadlineExceeded", DEADLINE_MESSAGE)
        return self._completed(job)

    def _until_deadline(self, job: Json) -> float | None:
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline is None or job["spec"].get("suspend") or "startTime" not in job["status"]:
            return None
        return parsed(job["status"]["startTime"]) + deadline - self._clock.seconds()

    def _condition(self, name: str, reason: str, message: str, value: str = "True") -> Json:
        now = self._clock.stamp()
        said = {"type": name, "status": value, "lastProbeTime": now, "lastTransitionTime": now}
        return said | {"reason": reason, "message": message}

    def _new(self, job: Json, pods: list[Json], failed: bool) -> list[Json]:
        """Pods that ended and are not in the counts yet."""
        return [
            pod for pod in pods if TRACKING in (pod["metadata"].get("finalizers") or []) and has_ended(job, pod, failed)
        ]

    def _completed(self, job: Json) -> Json | None:
        spec, pods = job["spec"], self._pods(job)
        active = [pod for pod in pods if not is_over(pod) and not is_leaving(pod)]
        if spec["completionMode"] == "Indexed":
            succeeded = len(succeeded_indexes(job, pods))
        else:
            succeeded = job["status"].get("succeeded", 0) + len(self._new(job, pods, failed=False))
        enough = succeeded >= spec["completions"] if "completions" in spec else succeeded > 0
        if active or not enough:
            return None
        return self._condition("SuccessCriteriaMet", "CompletionsReached", COMPLETIONS_MESSAGE)

    def _manage(self, job: Json, pods: list[Json]) -> float | None:
        """Creates and deletes pods towards the wanted number; seconds until another may be created."""
        spec = job["spec"]
        active = [pod for pod in pods if not is_over(pod) and not is_leaving(pod)]
        if spec.get("suspend"):
            self._take_away(job, active)
            self._suspended(job, True)
            return None
        self._suspended(job, False)
        if spec["completionMode"] == "Indexed":
            succeeded = len(succeeded_indexes(job, pods))
        else:
            succeeded = job["status"].get("succeeded", 0) + len(self._new(job, pods, failed=False))
        if "completions" in spec:
            wanted = min(spec["parallelism"], max(spec["completions"] - succeeded, 0))
        else:
            wanted = len(active) if succeeded else spec["parallelism"]
        if len(active) > wanted:
            self._take_away(job, active[wanted:])
            return None
        leaving = [pod for pod in pods if is_leaving(pod) and not is_over(pod)]
        held = len(leaving) if spec.get("podReplacementPolicy") == "Failed" else 0
        missing = wanted - len(active) - held
        if missing <= 0:
            return None
        wait = self._backoff(job, pods)
        if wait <= 0:
            self._create(job, active, missing)
        return wait if wait > 0 else None

    def _backoff(self, job: Json, pods: list[Json]) -> float:
        uid = job["metadata"]["uid"]
        failures, last = self._failures.get(uid, (0, 0.0))
        failures += len(self._new(job, pods, failed=True))
        if failures > self._failures.get(uid, (0, 0.0))[0]:
            last = self._clock.seconds()
        if not failures:
            return 0.0
        return last + min(BACKOFF_SECONDS * 2 ** (failures - 1), LONGEST_BACKOFF_SECONDS) - self._clock.seconds()

    def _create(self, job: Json, active: list[Json], missing: int) -> None:
        indexes: list[int | None] = [None] * missing
        if job["spec"]["completionMode"] == "Indexed":
            taken = {int(pod["metadata"]["annotations"][INDEX]) for pod in active}
            taken |= succeeded_indexes(job, self._pods(job))
            indexes = [index for index in range(job["spec"]["completions"]) if index not in taken][:missing]
        for index in indexes:
            try:
                self._verbs.meet("create", PODS, "")
                pod = self._verbs.create(PODS, job["metadata"]["namespace"], pod_of(job, index))
            except ApiError as error:
                self._recorder.tell(job, "FailedCreate", f"Error creating: {error.message}", SOURCE, warning=True)
                self._count(job, None)
                raise
            self._recorder.tell(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", SOURCE)

    def _take_away(self, job: Json, pods: list[Json]) -> None:
        """Deletes pods that are too many: let go first, so that they do not count as failed."""
        for pod in pods:
            self._release(pod)
        self._delete(job, pods)

    def _delete(self, job: Json, pods: list[Json]) -> None:
        for pod in pods:
            self._deletion.delete(PODS, key_of(pod), {"propagationPolicy": "Background"})
            self._recorder.tell(job, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}", SOURCE)

    def _suspended(self, job: Json, now: bool) -> None:
        conditions = job["status"].setdefault("conditions", [])
        old = next((held for held in conditions if held["type"] == "Suspended"), None)
        value = "True" if now else "False"
        if (old["status"] if old else "False") == value:
            if not conditions:
                del job["status"]["conditions"]
            return
        reason, message = ("JobSuspended", "Job suspended") if now else ("JobResumed", "Job resumed")
        conditions[:] = [held for held in conditions if held is not old]
        conditions.append(self._condition("Suspended", reason, message, value))
        if now:
            job["status"].pop("startTime", None)
        else:
            job["status"]["startTime"] = self._clock.stamp()
        self._recorder.tell(job, "Suspended" if now else "Resumed", message, SOURCE)

    def _count(self, job: Json, ended: Json | None) -> None:
        """Takes ended pods into the status, lets them go, and ends the job when nothing is left of it."""
        status, pods = job["status"], self._pods(job)
        failed_end = ended is not None and ended["type"] == "FailureTarget"
        tracked = [pod for pod in pods if TRACKING in (pod["metadata"].get("finalizers") or [])]
        counted = [
            pod
            for pod in tracked
            if ended or is_leaving(job) or has_ended(job, pod, True) or has_ended(job, pod, False)
        ]
        good = [pod for pod in counted if pod["status"].get("phase") == "Succeeded"]
        bad = [pod for pod in counted if pod not in good and (failed_end or has_ended(job, pod, True))]
        if ended and condition(job, ended["type"]) is None:
            status.setdefault("conditions", []).append(ended)
        count(status, pods)
        uncounted = {"succeeded": good if job["spec"]["completionMode"] != "Indexed" else [], "failed": bad}
        status["uncountedTerminatedPods"] = {
            name: [pod["metadata"]["uid"] for pod in found] for name, found in uncounted.items() if found
        }
        job = self._write(job)
        for pod in counted:
            self._release(pod)
        self._settle(job, good, bad, ended)

    def _settle(self, job: Json, good: list[Json], bad: list[Json], ended: Json | None) -> None:
        status, uid = job["status"], job["metadata"]["uid"]
        status["uncountedTerminatedPods"] = {}
        if job["spec"]["completionMode"] == "Indexed":
            indexes = succeeded_indexes(job, good)
            if indexes:
                status |= {"completedIndexes": ranges_of(indexes), "succeeded": len(indexes)}
        elif good:
            status["succeeded"] = status.get("succeeded", 0) + len(good)
        if bad:
            status["failed"] = status.get("failed", 0) + len(bad)
            self._failures[uid] = self._failures.get(uid, (0, 0.0))[0] + len(bad), self._clock.seconds()
        if good:
            self._failures.pop(uid, None)
        pods = self._pods(job)
        count(status, pods)
        final = None
        if ended is not None and not status["terminating"]:
            name = "Failed" if ended["type"] == "FailureTarget" else "Complete"
            final = self._condition(name, ended["reason"], ended["message"])
            status["conditions"].append(final)
            if name == "Complete":
                status["completionTime"] = final["lastTransitionTime"]
        job = self._write(job)
        if final is not None and final["type"] == "Complete":
            self._recorder.tell(job, "Completed", "Job completed", SOURCE)
        elif final is not None:
            self._recorder.tell(job, final["reason"], final["message"], SOURCE, warning=True)

    def _write(self, job: Json) -> Json:
        current = self._store.get(JOBS, key_of(job))
        if current is None:
            return job
        return copy.deepcopy(self._store.put(JOBS, {**current, "status": job["status"]}))

    def _release(self, pod: Json) -> None:
        """Takes the tracking finalizer off; a pod that was only waiting for that is gone then."""
        current = self._store.get(PODS, key_of(pod))
        if current is None:
            return
        changed = copy.deepcopy(current)
        changed["metadata"]["finalizers"] = [
            name for name in changed["metadata"].get("finalizers") or [] if name != TRACKING
        ]
        if not changed["metadata"]["finalizers"]:
            del changed["metadata"]["finalizers"]
        self._verbs.replace(PODS, key_of(pod), changed)
