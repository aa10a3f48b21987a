"""200 kills of workers, runs, pods and networks, at moments that a seed chooses: what is left must be whole.

A worker dies before or after any request that it makes to the cluster or to the store. Another follows it, of the same
run or of a new one. Meanwhile pods are killed in every way that clusters know, connections drop,
answers get lost and the store is away. Nothing may be done twice at a time, nothing lost, nothing left over.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmops_core.job_orphans import orphans
from llmops_core.job_outcomes import Outcome, is_finished
from resources.cluster.kubernetes_api import JOBS, PODS
from resources.cluster.kubernetes_api import KubernetesApi as Client
from resources.jobs.kubernetes_jobs import KubernetesJobs
from tests.fakes import job_worlds
from tests.fakes.job_pods import PlayedPod
from tests.fakes.job_worlds import NAMESPACE, ClusterWorld, Going, Killed
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.kubernetes_errors import ApiError
from tests.fakes.kubernetes_kinds import PODS as STORED_PODS
from tests.fakes.memory_s3 import STORES, MemoryPlace, MemoryS3

KILLS = 200
KILLS_OF_A_JOB = 8
LINES = 3
FATES = ("worker", "run", "pod", "network")
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0)

# how a pod is killed: what does it, and what it may be called. One that vanished before anybody looked is "deleted".
POD_KILLS: dict[str, tuple[Callable[["Simulation", PlayedPod], None], set[str]]] = {
    "memory": (lambda s, pod: pod.ends(137, "OOMKilled", says=False), {"out_of_memory"}),
    "crash": (lambda s, pod: pod.ends(9), {"crashed"}),
    "signal": (lambda s, pod: pod.ends(139, says=False), {"crashed"}),
    "evicted": (lambda s, pod: s.api.kubelet.evict(pod.pod), {"evicted"}),
    "preempted": (lambda s, pod: s.api.kubelet.preempt(pod.pod), {"preempted"}),
    "drained": (lambda s, pod: s.api.kubelet.drain(pod.pod), {"evicted", "pod_deleted"}),
    "deleted": (lambda s, pod: s.delete_pod(pod), {"pod_deleted"}),
    "job deleted": (lambda s, pod: s.delete_job(pod), {"lost", "pod_deleted"}),
}


@dataclass
class Mortal:
    """Kills its worker at request number `at`, before it is sent or when it was answered."""

    at: int = 0
    after: bool = False
    count: int = 0
    thread: int = 0

    def meets(self, request: Callable[[], Any]) -> Any:
        if threading.get_ident() != self.thread:  # the watch, which dies with its process
            return request()
        self.count += 1
        if self.count == self.at and not self.after:
            raise Killed
        answer = request()
        if self.count == self.at:
            raise Killed
        return answer


class MortalClient(Client):
    mortal: Mortal

    def _answer(self, *asked: Any) -> Any:
        return self.mortal.meets(lambda: super(MortalClient, self)._answer(*asked))


class MortalS3:
    def __init__(self, store: MemoryS3, mortal: Mortal) -> None:
        self._store, self._mortal = store, mortal

    def __getattr__(self, name: str) -> Any:
        action = getattr(self._store, name)
        if name in ("put_object", "get_object"):
            return lambda **asked: self._mortal.meets(lambda: action(**asked))
        return action


@dataclass
class Simulation:
    api: KubernetesApi
    world: ClusterWorld
    random: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    expected: dict[str, set[str]] = field(default_factory=dict)
    played: dict[str, PlayedPod] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    doubled: list[str] = field(default_factory=list)

    def worker(self, run: str, index: int, mortal: Mortal) -> Going:
        client = MortalClient(self.api.client(), NAMESPACE)
        client.mortal = mortal
        name = f"worker-{id(mortal)}"
        STORES[name] = MortalS3(STORES[str(self.world.store_place.endpoint)], mortal)  # type: ignore[assignment]
        where = self.world.store_place
        place = MemoryPlace(where.file, where.field, where.uri, name, where.region)
        door = KubernetesJobs(self.world.place, client, place, 0.005, 20.0)

        def live() -> Any:
            mortal.thread = threading.get_ident()
            return self.world.follow("speaks", run, door, index=index)

        return Going(live)

    def delete_pod(self, pod: PlayedPod) -> None:
        self.world.client.delete(PODS, pod.pod["metadata"]["name"], pod.uid)

    def delete_job(self, pod: PlayedPod) -> None:
        owner = pod.pod["metadata"]["ownerReferences"][0]
        self.world.client.delete(JOBS, owner["name"], owner["uid"])

    def play(self, index: int, kill: str) -> str:
        """One step of every pod that runs; returns the kill that is still to be done."""
        for pod in self.api.objects("pods", NAMESPACE):
            if pod["status"].get("phase") != "Running" or pod["metadata"].get("deletionTimestamp"):
                continue
            uid = pod["metadata"]["uid"]
            if uid not in self.played:
                self.played[uid] = PlayedPod(self.api, pod, self.world.store_place, self.world.root / "pods")
            kill = self._step(self.played[uid], index, kill)
        return kill

    def _step(self, pod: PlayedPod, index: int, kill: str) -> str:
        done = self.lines.get(pod.uid, 0)
        if kill and self.random.random() < 0.4:
            act, names = POD_KILLS[kill]
            self.expected.setdefault(f"{pod.records.checkpoints} {pod.attempt}", set()).update(names)
            try:
                act(self, pod)
            except (LookupError, ApiError):
                return kill
            self.kills["pod"] += 1
            return ""
        if done < LINES:
            pod.prints(f"line {done}\n")
            self.lines[pod.uid] = done + 1
        else:
            pod.publishes({"answer.txt": f"answer {index}"})
            pod.ends()
        return kill

    def disturb(self) -> None:
        """One fault of the network, of those that pass by themselves."""
        faults, store = self.api.faults, STORES[str(self.world.store_place.endpoint)]
        choice = self.random.choice(["watch", "error", "busy", "answer", "history", "store"])
        if choice == "watch":
            faults.drop_watches()
        elif choice == "error":
            faults.refuse(500, times=2)
        elif choice == "busy":
            faults.refuse(429, times=1)
        elif choice == "answer":
            faults.lose_answer(verb=self.random.choice(["create", "get", "patch"]))
        elif choice == "history":
            self.api.forget_history()
            faults.drop_watches()
        else:
            store.down = True
            threading.Timer(0.03, lambda: setattr(store, "down", False)).start()
        self.kills["network"] += 1

    def one_job(self, index: int) -> None:
        """From its first worker to its result, through as many deaths as there are."""
        left, run, failures = KILLS_OF_A_JOB, 0, 0
        while True:
            open_fates = [each for each in FATES if self.kills[each] < KILLS / len(FATES)]
            fate = self.random.choice(open_fates) if left > 0 and open_fates else ""
            dies = fate in ("worker", "run")
            at = self.random.randint(1, 30) if dies else 0
            mortal = Mortal(at, self.random.random() < 0.5)
            kill = self.random.choice(list(POD_KILLS)) if fate == "pod" else ""
            going = self.worker(f"{index}-{run}", index, mortal)
            if fate == "network":
                time.sleep(self.random.random() * 0.05)
                self.disturb()
            while going.goes:
                kill = self.play(index, kill)
                time.sleep(0.002)
            left -= 1
            ran = going.ended()
            if not ran.errors:
                assert (ran.out / "answer.txt").read_text() == f"answer {index}"
                return
            if isinstance(ran.errors[0], Killed):
                self.kills[fate] += 1
            failures += 1
            if fate == "run" or not isinstance(ran.errors[0], Killed):
                run += 1  # the run failed with its step; somebody starts another
            for _ in range(self.random.randint(0, 3)):
                self.play(index, "")
            assert failures < 60, ran.errors


@pytest.fixture
def simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(job_worlds, "REPORT_SECONDS", 0.005)
    monkeypatch.setattr("resources.jobs.kubernetes_jobs.LONGEST_PAUSE_SECONDS", 0.03)
    monkeypatch.setattr("resources.jobs.job_watch.FIRST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr("resources.jobs.job_watch.JOBS_LIST_SECONDS", 0.02)
    monkeypatch.setattr("resources.storage.s3_folder.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("resources.outside.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("resources.storage.disk._sync", lambda *given: None)  # nobody pulls a plug here
    MemoryS3(tmp_path.name)
    with KubernetesApi() as api:
        api.create_namespace(NAMESPACE)
        world = ClusterWorld(tmp_path, api, tmp_path.name, memory_ladder_gb=list(SIZES), pending_seconds=30)
        made = Simulation(api, world, random.Random(20261121))
        watch_for_doubles(made)
        yield made


def watch_for_doubles(simulation: Simulation) -> None:
    """Notes each pod that is made while another of the same work lives."""
    create = simulation.api.verbs.create

    def created(kind: Any, namespace: str, found: dict[str, Any], *rest: Any, **more: Any) -> Any:
        if kind == STORED_PODS:
            work = found["metadata"]["annotations"]["llmops.dev/fingerprint"]
            for pod in simulation.api.objects("pods", NAMESPACE):
                alive = pod["status"].get("phase") in ("Pending", "Running", None, "")
                same = pod["metadata"]["annotations"]["llmops.dev/fingerprint"] == work
                if alive and same and not pod["metadata"].get("deletionTimestamp"):
                    simulation.doubled.append(pod["metadata"]["name"])
        return create(kind, namespace, found, *rest, **more)

    simulation.api.verbs.create = created  # type: ignore[method-assign]


@pytest.mark.slow  # half a minute: the work of some 150 workers
def test_a_kill_doubled_a_job_lost_a_result_or_left_an_orphan(simulation: Simulation) -> None:
    index = 0
    while sum(simulation.kills.values()) < KILLS:
        simulation.one_job(index)
        index += 1
    assert simulation.doubled == []
    assert sum(simulation.kills.values()) >= KILLS and set(simulation.kills) == set(FATES)
    assert_every_end_has_its_name(simulation)
    assert_all_was_told_once(simulation)
    assert_nothing_is_left(simulation)


def assert_every_end_has_its_name(simulation: Simulation) -> None:
    for pod in simulation.played.values():
        records = pod.records
        result = records.result()
        assert result is not None
        for attempt in records.attempts():
            assert attempt.end is not None, "an attempt has no end"
            outcome = Outcome(attempt.end["outcome"])
            if attempt.number == result["attempt"]:
                assert outcome is Outcome.SUCCEEDED
                continue
            expected = simulation.expected.get(f"{records.checkpoints} {attempt.number}", set())
            assert outcome.value in expected, (outcome, expected, attempt.end["reason"])


def assert_all_was_told_once(simulation: Simulation) -> None:
    told = [(run, heard) for run, _, _, heard in simulation.world.book.events if heard]
    assert len(told) == len(set(told)), "a piece was told twice in one run"
    everywhere = {heard[1:] for _, heard in told}
    for uid, pod in simulation.played.items():
        result = pod.records.result()
        if result is not None and result["attempt"] == pod.attempt and simulation.lines.get(uid) == LINES:
            assert {(uid, "log", piece + 1) for piece in range(LINES)} <= everywhere, "a piece was never told"


def assert_nothing_is_left(simulation: Simulation) -> None:
    door = simulation.world.door()
    ended = {job.run_id: 0.0 for job in door.going()}
    for job, why in orphans(door.going(), ended, time.time() + 1000, 1):
        door.end(job, why)
    simulation.api.settle()
    assert door.going() == []
    left = [job for job in simulation.world.job_objects if not is_finished(job)]
    assert all(job["metadata"].get("deletionTimestamp") for job in left)
