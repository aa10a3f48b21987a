"""The parts of a pod's status: conditions and container states, as the kubelet writes them."""

import copy
import hashlib

from tests.fakes.kubernetes_clock import Clock
from tests.fakes.kubernetes_store import Json

ORDER = ("DisruptionTarget", "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def condition_of(name: str, value: str, clock: Clock, reason: str = "", message: str = "") -> Json:
    told: Json = {"type": name, "status": value, "lastProbeTime": None, "lastTransitionTime": clock.stamp()}
    if reason:
        told["reason"] = reason
    if message:
        told["message"] = message
    return told | {"observedGeneration": 1}


def with_condition(pod: Json, *told: Json) -> Json:
    """A copy of the pod; a condition whose status stays keeps its time."""
    changed = {**pod, "status": copy.deepcopy(pod["status"])}
    held = {one["type"]: one for one in changed["status"].get("conditions") or []}
    for one in told:
        old = held.get(one["type"])
        if old and old["status"] == one["status"]:
            one = one | {"lastTransitionTime": old["lastTransitionTime"]}
        held[one["type"]] = one
    rank = {name: at for at, name in enumerate(ORDER)}
    changed["status"]["conditions"] = sorted(held.values(), key=lambda one: rank.get(one["type"], 99))
    return changed


def as_kubelet_says(pod: Json, clock: Clock, ready: bool, reason: str = "") -> Json:
    """A copy of the pod with the conditions, times and addresses that its kubelet writes."""
    value = "True" if ready else "False"
    why = ("", "") if ready else (reason or "ContainersNotReady", "")
    changed = with_condition(
        pod,
        condition_of("PodReadyToStartContainers", "False" if reason else "True", clock),
        condition_of("Initialized", "True", clock, reason if reason == "PodCompleted" else ""),
        condition_of("Ready", value, clock, *why),
        condition_of("ContainersReady", value, clock, *why),
    )
    changed["status"].setdefault("startTime", clock.stamp())
    changed["status"] |= {"hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}], "observedGeneration": 1}
    address = address_of(pod["metadata"]["uid"])
    changed["status"] |= {"podIP": address, "podIPs": [{"ip": address}]}
    return changed


def address_of(uid: str) -> str:
    """An address of this machine's own for each pod, so that two may listen on one port."""
    digest = hashlib.sha256(uid.encode()).digest()
    return f"127.{digest[0] % 100 + 100}.{digest[1]}.{digest[2] % 250 + 2}"


def last_state(pod: Json, container: Json) -> Json:
    held = next((one for one in pod["status"].get("containerStatuses") or [] if one["name"] == container["name"]), {})
    state = held.get("state", {})
    return state if "terminated" in state else held.get("lastState", {})


def waiting(container: Json, reason: str, message: str = "", restarts: int = 0, last: Json | None = None) -> Json:
    state: Json = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    return _status(container, "", state, False, False, restarts, last)


def running(
    container: Json, uid: str, clock: Clock, restarts: int = 0, last: Json | None = None, ready: bool = True
) -> Json:
    state = {"running": {"startedAt": clock.stamp()}}
    return _status(container, container_id(uid, container["name"], restarts), state, ready, ready, restarts, last)


def terminated(container: Json, uid: str, before: Json, clock: Clock, code: int, reason: str, message: str) -> Json:
    started = (before.get("state", {}).get("running") or {}).get("startedAt")
    restarts = before.get("restartCount", 0)
    held = container_id(uid, container["name"], restarts)
    ended: Json = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error")}
    ended |= {"startedAt": started, "finishedAt": clock.stamp(), "containerID": held if started else ""}
    if message:
        ended["message"] = message
    return _status(container, held, {"terminated": ended}, False, False, restarts, before.get("lastState"))


def _status(
    container: Json, held: str, state: Json, ready: bool, started: bool, restarts: int, last: Json | None
) -> Json:
    told: Json = {"name": container["name"], "state": state, "lastState": last or {}, "ready": ready}
    told |= {"restartCount": restarts, "image": container["image"], "imageID": "", "started": started}
    if held:
        told |= {"containerID": held, "imageID": f"sha256:{hashlib.sha256(container['image'].encode()).hexdigest()}"}
    return told


def container_id(uid: str, name: str, restarts: int) -> str:
    return f"containerd://{hashlib.sha256(f'{uid}/{name}/{restarts}'.encode()).hexdigest()}"
