"""The kubelet of the stand-in: what happens in pods that have a node.

By default a pod starts and runs until the test ends it (`end`). `plan` may say otherwise for pods to come: end by
themselves after some seconds, or run their command as a process of this machine. Faults are said to the kubelet too:
images that cannot be pulled, out of memory, eviction, preemption, a start that fails.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes import kubernetes_probes as probes
from tests.fakes import kubernetes_processes as processes
from tests.fakes.kubernetes_clock import parsed
from tests.fakes.kubernetes_deletion import Deletion
from tests.fakes.kubernetes_engine import Controller
from tests.fakes.kubernetes_environment import NotCreated, environment_of
from tests.fakes.kubernetes_events import Recorder
from tests.fakes.kubernetes_images import AGAIN_SECONDS, trouble_with
from tests.fakes.kubernetes_job_state import is_leaving, is_over
from tests.fakes.kubernetes_kinds import PODS
from tests.fakes.kubernetes_logs import Logs
from tests.fakes.kubernetes_pod_orders import KILLED, PodOrders, names_of
from tests.fakes.kubernetes_pod_status import as_kubelet_says, last_state, running, terminated, waiting
from tests.fakes.kubernetes_store import Change, Json, Key, key_of
from tests.fakes.kubernetes_verbs import Verbs

BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 10.0, 300.0


@dataclass(frozen=True)
class Plan:
    """What a pod's containers do: end after `seconds` with `exit_code`, having printed `lines`; or never by themselves;
    or, with `command`, what their command does, as a process."""

    seconds: float | None = None
    exit_code: int = 0
    reason: str = ""
    lines: tuple[str, ...] = ()
    command: bool = False
    starts_after_seconds: float = 0.0


HOLD = Plan()
COMMAND = Plan(command=True)


@dataclass
class _Run:
    """One pod in the hands of its kubelet."""

    plan: Plan
    seen: float
    started: float | None = None
    init_done: int = 0
    restarts: int = 0
    init_restarts: int = 0
    crashed: float | None = None
    pulled: float | None = None
    room: Path | None = None
    running: dict[str, processes.ContainerProcess] = field(default_factory=dict)
    ended: dict[str, tuple[int, str]] = field(default_factory=dict)


class Kubelet(PodOrders, Controller):
    """`plan` chooses for each new pod; `missing_images` cannot be pulled until they are taken out of the set;
    `image_environment` is what the image sets for processes (PATH, PYTHONPATH); `answers` False leaves all as it is."""

    def __init__(
        self, verbs: Verbs, deletion: Deletion, recorder: Recorder, logs: Logs, is_lost: Callable[[str], bool]
    ) -> None:
        super().__init__(verbs, deletion, recorder, logs)
        self._is_lost = is_lost
        self._runs: dict[str, _Run] = {}
        self.plan: Callable[[Json], Plan] = lambda pod: HOLD
        self.missing_images: set[str] = set()
        self.image_environment: Mapping[str, str] = {}
        self.look: Callable[[Key], None] = lambda key: None  # set by the stand-in: reconciles a key again

    def close(self) -> None:
        for run in list(self._runs.values()):
            for process in list(run.running.values()):
                process.kill()
                process.wait()
            if run.room:
                shutil.rmtree(run.room, ignore_errors=True)

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.kind != PODS:
            return []
        if change.type == "DELETED":
            self._forget(change.found["metadata"]["uid"])
            return []
        return [key_of(change.found)] if change.found["spec"].get("nodeName") else []

    def reconcile(self, key: Key) -> float | None:
        pod = self._store.get(PODS, key)
        if pod is None or not pod["spec"].get("nodeName") or self._is_lost(pod["spec"]["nodeName"]):
            return None
        uid = pod["metadata"]["uid"]
        if is_leaving(pod):
            self._stop(pod)
            return None
        if is_over(pod):
            return None
        if uid not in self._runs:
            self._runs[uid] = _Run(self.plan(pod), self._clock.seconds())
        run = self._runs[uid]
        deadline = self._past_deadline(pod)
        if deadline is not None and deadline <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            self.kill(uid)
            self.over(pod, "Failed", {name: (KILLED, "Error") for name in names_of(pod)}, "DeadlineExceeded", message)
            return None
        again = self._progress(pod, run)
        return min((wait for wait in (again, deadline) if wait is not None), default=None)

    def _past_deadline(self, pod: Json) -> float | None:
        seconds, started = pod["spec"].get("activeDeadlineSeconds"), pod["status"].get("startTime")
        return parsed(started) + seconds - self._clock.seconds() if seconds and started else None

    def _progress(self, pod: Json, run: _Run) -> float | None:
        if run.started is None:
            left = run.seen + run.plan.starts_after_seconds - self._clock.seconds()
            if left > 0:
                self._waiting(pod, run, "ContainerCreating")
                return left
            return self._start(pod, run)
        for name, (code, reason) in list(run.ended.items()):
            del run.ended[name]
            self.finish(pod, name, code, reason)
            pod = self._verbs.read(PODS, key_of(pod))
        if run.crashed is not None:
            return self._restart(pod, run)
        if run.plan.command and probes.has_probes(pod) and not is_over(pod):
            changed, again = probes.asked(pod, self._clock)
            if changed is not None:
                self._store.put(PODS, changed)
            return again
        if run.plan.seconds is None or is_over(pod):
            return None
        left = run.started + run.plan.seconds - self._clock.seconds()
        if left > 0:
            return left
        self.end(pod, run.plan.exit_code, run.plan.reason)
        return None

    def _start(self, pod: Json, run: _Run) -> float | None:
        containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        missing = next((one for one in containers if one["image"] in self.missing_images), None)
        if missing is not None:
            return self._not_pulled(pod, run, missing)
        try:
            for container in containers:
                environment_of(pod, container, self._store)
            if run.plan.command:
                run.room = run.room or Path(tempfile.mkdtemp(prefix="pod-"))
                processes.volumes_of(pod, run.room, self._store)
        except NotCreated as error:
            self._waiting(pod, run, "CreateContainerConfigError", str(error))
            self._recorder.tell(pod, "Failed", f"Error: {error}", "kubelet", warning=True)
            return AGAIN_SECONDS
        run.started, run.crashed = self._clock.seconds(), None
        self._run(pod, run)
        return run.plan.seconds

    def _not_pulled(self, pod: Json, run: _Run, container: Json) -> float:
        image, first = container["image"], run.pulled is None
        run.pulled = run.pulled or self._clock.seconds()
        trouble = trouble_with(image, container["imagePullPolicy"], first)
        for reason, message, warning in trouble.events:
            self._recorder.tell(pod, reason, message, "kubelet", warning)
        self._waiting(pod, run, trouble.reason, trouble.message)
        return trouble.again_seconds

    def _waiting(self, pod: Json, run: _Run, reason: str, message: str = "") -> None:
        changed = as_kubelet_says(pod, self._clock, ready=False)
        changed["status"]["containerStatuses"] = [
            waiting(one, reason, message, run.restarts, last_state(pod, one)) for one in pod["spec"]["containers"]
        ]
        self._store.put(PODS, changed)

    def _run(self, pod: Json, run: _Run) -> None:
        ready = not (run.plan.command and probes.has_probes(pod))
        uid, changed = pod["metadata"]["uid"], as_kubelet_says(pod, self._clock, ready)
        changed["status"] |= {"phase": "Running"}
        changed["status"].pop("initContainerStatuses", None)
        changed["status"]["containerStatuses"] = [
            running(one, uid, self._clock, run.restarts, last_state(pod, one), ready)
            for one in pod["spec"]["containers"]
        ]
        stored = self._store.put(PODS, changed)
        if run.plan.command and not self._initialised(stored, run):
            return
        for container in pod["spec"]["containers"]:
            self._tell_start(stored, container)
            for line in run.plan.lines:
                self._logs.say(uid, container["name"], line)
            if run.plan.command and container["name"] not in run.running:  # a restart is of the one that ended
                self._launch(stored, run, container)

    def _tell_start(self, pod: Json, container: Json) -> None:
        field = f"spec.containers{{{container['name']}}}"
        image = f'Container image "{container["image"]}" already present on machine'
        for reason, message in (("Pulled", image), ("Created", "Container created"), ("Started", "Container started")):
            self._recorder.tell(pod, reason, message, "kubelet", field=field)

    def _initialised(self, pod: Json, run: _Run) -> bool:
        """Runs init containers, one after the other; when one fails the pod waits, or is over."""
        assert run.room is not None
        for one in [] if run.init_done else pod["spec"].get("initContainers", []):
            words, code = processes.run_through(pod, one, self._store, run.room, self.image_environment)
            if code and pod["spec"].get("restartPolicy") == "Always":
                run.started, run.init_restarts = None, run.init_restarts + 1
                run.seen = self._clock.seconds() + (BACKOFF_SECONDS if run.init_restarts > 1 else 0.0)
                self._store.put(PODS, probes.init_failed(pod, one, self._clock, code, run.init_restarts, words))
                self.look(key_of(pod))
                return False
            if code:
                ends = {name: (KILLED, "Error") for name in names_of(pod)}
                self.over(pod, "Failed", ends, "", f"init container {one['name']} failed")
                return False
        run.init_done = 1
        return True

    def _launch(self, pod: Json, run: _Run, container: Json) -> None:
        uid, name, key = pod["metadata"]["uid"], container["name"], key_of(pod)

        def ended(code: int, reason: str) -> None:
            run.ended[name] = code, reason
            run.running.pop(name, None)
            self.look(key)

        def said(line: str) -> None:
            self._logs.say(uid, name, line)

        assert run.room is not None
        try:
            made = processes.start(pod, container, self._store, run.room, self.image_environment, said, ended)
            run.running[name] = made
        except OSError as error:
            message = f'exec: "{(container.get("command") or [""])[0]}": {error.strerror}'
            self._recorder.tell(
                pod, "Failed", f"Error: failed to create containerd task: {message}", "kubelet", warning=True
            )
            self.finish(pod, name, 128, "StartError", message)

    def finish(self, pod: Json, name: str, code: int, reason: str = "", message: str = "") -> None:
        """One container ended: the pod is over, or the container is started again."""
        pod = self._verbs.read(PODS, key_of(pod))
        if is_over(pod):
            return
        uid = pod["metadata"]["uid"]
        container = next(one for one in pod["spec"]["containers"] if one["name"] == name)
        policy = pod["spec"].get("restartPolicy", "Always")
        statuses = pod["status"].get("containerStatuses") or []
        changed = {**pod, "status": {**pod["status"]}}
        changed["status"]["containerStatuses"] = [
            terminated(container, uid, one, self._clock, code, reason, message) if one["name"] == name else one
            for one in statuses
        ]
        again = policy == "Always" or (policy == "OnFailure" and code != 0)
        self._logs.close(uid, name)
        if again and not is_leaving(pod):
            self._crash(changed, code)
            return
        states = {one["name"]: one["state"].get("terminated") for one in changed["status"]["containerStatuses"]}
        if all(states.values()):
            codes = {name: (state["exitCode"], state["reason"]) for name, state in states.items() if state}
            good = all(code == 0 for code, _ in codes.values())
            self.over(changed, "Succeeded" if good else "Failed", {})
        else:
            self._store.put(PODS, changed)

    def _crash(self, pod: Json, code: int) -> None:
        run = self._runs[pod["metadata"]["uid"]]
        run.crashed = self._clock.seconds()
        changed = as_kubelet_says(pod, self._clock, ready=False)
        changed["status"]["containerStatuses"] = pod["status"]["containerStatuses"]
        self._store.put(PODS, changed)
        self.look(key_of(pod))

    def _restart(self, pod: Json, run: _Run) -> float | None:
        """At once the first time, then with a growing pause, told as CrashLoopBackOff."""
        assert run.crashed is not None
        pause = min(BACKOFF_SECONDS * 2 ** (run.restarts - 1), LONGEST_BACKOFF_SECONDS) if run.restarts else 0.0
        left = run.crashed + pause - self._clock.seconds()
        if left > 0:
            name = pod["spec"]["containers"][0]["name"]
            where = f"{pod['metadata']['name']}_{pod['metadata']['namespace']}({pod['metadata']['uid']})"
            said = f"back-off {int(pause)}s restarting failed container={name} pod={where}"
            self._waiting(pod, run, "CrashLoopBackOff", said)
            self._recorder.tell(
                pod, "BackOff", f"Back-off restarting failed container {name} in pod {where}", "kubelet", True
            )
            return left
        run.restarts += 1
        run.crashed, run.started = None, self._clock.seconds()
        for container in pod["spec"]["containers"]:
            self._logs.restart(pod["metadata"]["uid"], container["name"])
        self._run(pod, run)
        return run.plan.seconds

    def over(
        self, pod: Json, phase: str, ends: dict[str, tuple[int, str]], reason: str = "", message: str = ""
    ) -> None:
        changed = as_kubelet_says(
            pod, self._clock, ready=False, reason="PodCompleted" if phase == "Succeeded" else "PodFailed"
        )
        status, uid = changed["status"], pod["metadata"]["uid"]
        status["phase"] = phase
        if reason:
            status |= {"reason": reason, "message": message}
        held = {one["name"]: one for one in status.get("containerStatuses") or []}
        status["containerStatuses"] = [
            terminated(one, uid, held.get(one["name"], {}), self._clock, *ends[one["name"]], "")
            if one["name"] in ends and "terminated" not in held.get(one["name"], {}).get("state", {})
            else held.get(one["name"]) or waiting(one, "ContainerCreating")
            for one in pod["spec"]["containers"]
        ]
        self._store.put(PODS, changed)
        for container in pod["spec"]["containers"]:
            self._logs.close(uid, container["name"])

    def _stop(self, pod: Json) -> None:
        """A pod that must go: its processes are asked to end, and when they have, so has the grace."""
        uid = pod["metadata"]["uid"]
        run = self._runs.get(uid)
        if run is not None and run.running:
            grace = pod["metadata"].get("deletionGracePeriodSeconds", 30)
            for process in list(run.running.values()):
                process.stop(grace)
            return
        if run is not None:
            for name, (code, reason) in run.ended.items():
                self.finish(pod, name, code, reason)
            run.ended.clear()
        pod = self._verbs.read(PODS, key_of(pod))
        if not is_over(pod):
            started = [one["name"] for one in pod["status"].get("containerStatuses") or [] if "running" in one["state"]]
            self.over(pod, "Failed", {name: (KILLED, "Error") for name in started})
        if pod["metadata"].get("deletionGracePeriodSeconds"):
            field = f"spec.containers{{{pod['spec']['containers'][0]['name']}}}"
            self._recorder.tell(
                pod, "Killing", f"Stopping container {pod['spec']['containers'][0]['name']}", "kubelet", field=field
            )
        self._deletion.finish(PODS, key_of(pod))

    def kill(self, uid: str) -> None:
        run = self._runs.get(uid)
        for process in list(run.running.values()) if run else []:
            process.kill()

    def _forget(self, uid: str) -> None:
        run = self._runs.pop(uid, None)
        if run is None:
            return
        for process in list(run.running.values()):
            process.kill()
        if run.room:
            threading.Thread(target=shutil.rmtree, args=(run.room, True), daemon=True).start()
