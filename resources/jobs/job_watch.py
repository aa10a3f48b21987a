"""What the cluster does to the pods of all jobs: one watch for this process, however many jobs wait on it.

Pods are watched and not Jobs, because a pod tells why (no node, no image, preempted, out of memory), and a pod that was
deleted is seen one last time with its reason, after which nobody has it. Jobs themselves are read when a pod ended, and
all together every few seconds while some job has no pod (it waits in a queue, or was deleted).

List, then watch from the listed version; a cut watch goes on from the last version seen, which bookmarks move; when the
server no longer has that version (410), list again: a pod that is missing then was deleted meanwhile.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from llmops_core.errors import LlmopsError
from llmops_core.job_names import NAME_LABEL, SELECTOR
from resources.cluster.kubernetes_api import PODS, Gone, Kind, KubernetesApi, Manifest

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 20.0
JOBS_LIST_SECONDS = 10.0


class JobWatch:
    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._changed = threading.Condition()
        self._pods: dict[str, dict[str, Manifest]] = {}  # by job and uid
        self._gone: set[str] = set()  # uids of pods that are deleted
        self._versions: dict[str, int] = {}  # of each job: how often something about it changed
        self._waiting: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._listed_jobs: dict[str, Manifest] = {}
        self._jobs_at = float("-inf")
        self._jobs_lock = threading.Lock()
        self.synced = False
        self.trouble: LlmopsError | None = None  # why nothing is known now

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """While inside, what happens to the pods of this job is kept."""
        with self._changed:
            self._waiting[name] = self._waiting.get(name, 0) + 1
            self._keep_following()
        try:
            yield
        finally:
            with self._changed:
                self._waiting[name] -= 1
                if not self._waiting[name]:
                    del self._waiting[name]
                    for uid in self._pods.pop(name, {}):
                        self._gone.discard(uid)
                    self._versions.pop(name, None)

    def wait(self, name: str, seen: int, timeout_seconds: float) -> int:
        """Returns as soon as anything about the job's pods is newer than `seen`, or after the timeout."""
        with self._changed:
            self._keep_following()
            self._changed.wait_for(lambda: self._versions.get(name, 0) > seen, timeout_seconds)
            return self._versions.get(name, 0)

    def pods(self, name: str) -> list[Manifest]:
        """The job's pods, each as it was seen last, deleted ones too."""
        with self._changed:
            return list(self._pods.get(name, {}).values())

    def is_gone(self, pod: Manifest) -> bool:
        with self._changed:
            return pod["metadata"]["uid"] in self._gone

    def job(self, kind: Kind, name: str) -> Manifest | None:
        """The job as a list of all read it a few seconds ago, for those that have no pod."""
        with self._jobs_lock:
            if time.monotonic() - self._jobs_at > JOBS_LIST_SECONDS:
                found = self._api.every(kind, SELECTOR)
                self._listed_jobs = {each["metadata"]["name"]: each for each in found}
                self._jobs_at = time.monotonic()
            return self._listed_jobs.get(name)

    def _follow(self) -> None:
        version, pause = "", FIRST_PAUSE_SECONDS
        while self._is_needed():
            try:
                if not version:
                    version = self._list()
                before = version
                for event in self._api.watch(PODS, SELECTOR, version):
                    version, pause = self._take(event), FIRST_PAUSE_SECONDS
                    if not self._is_needed():
                        return
                if version == before:  # a server or proxy that ends each watch at once is not asked without a pause
                    time.sleep(FIRST_PAUSE_SECONDS)
            except Gone:
                version = ""
            except LlmopsError as error:
                with self._changed:
                    self.trouble = error
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _keep_following(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self.synced, self.trouble = False, None
            self._thread = threading.Thread(target=self._follow, name="job-watch", daemon=True)
            self._thread.start()

    def _is_needed(self) -> bool:
        """Nobody waiting ends the thread; whoever comes next starts another."""
        with self._changed:
            if not self._waiting:
                self._thread = None
            return bool(self._waiting)

    def _list(self) -> str:
        found, version = self._api.list(PODS, SELECTOR)
        with self._changed:
            here = {pod["metadata"]["uid"] for pod in found}
            for name, pods in self._pods.items():
                for uid in pods.keys() - here - self._gone:
                    self._gone.add(uid)
                    self._tell(name)
            for pod in found:
                self._keep(pod)
            self.synced, self.trouble = True, None
            self._changed.notify_all()
        return version

    def _take(self, event: Manifest) -> str:
        found: Manifest = event["object"]
        with self._changed:
            self.trouble = None
            if event["type"] != "BOOKMARK":
                self._keep(found)
                if event["type"] == "DELETED":
                    self._lose(found)
                self._changed.notify_all()
        return str(found["metadata"]["resourceVersion"])

    def _keep(self, pod: Manifest) -> None:
        name = (pod["metadata"].get("labels") or {}).get(NAME_LABEL, "")
        before = self._pods.setdefault(name, {}).get(pod["metadata"]["uid"])
        self._pods[name][pod["metadata"]["uid"]] = pod
        if before is None or before["metadata"]["resourceVersion"] != pod["metadata"]["resourceVersion"]:
            self._tell(name)

    def _lose(self, pod: Manifest) -> None:
        """Kept as it was last for those who wait for its job; forgotten where nobody does."""
        name, uid = (pod["metadata"].get("labels") or {}).get(NAME_LABEL, ""), pod["metadata"]["uid"]
        if name in self._waiting:
            self._gone.add(uid)
            self._tell(name)
        else:
            self._pods.pop(name, None)

    def _tell(self, name: str) -> None:
        self._versions[name] = self._versions.get(name, 0) + 1
