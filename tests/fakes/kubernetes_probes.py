"""Start and readiness probes of containers that run as processes: the kubelet asks over HTTP and says what it saw.

A container is ready when both probes answer well, those that it has. Liveness is not asked: nothing is killed for it.
Also here: the words for an init container that fails and is started again.
"""

import copy
import http.client
from collections.abc import Sequence

from tests.fakes.kubernetes_clock import Clock
from tests.fakes.kubernetes_pod_status import address_of, as_kubelet_says, container_id
from tests.fakes.kubernetes_store import Json

LIMIT_SECONDS, UNREADY_SECONDS = 1.0, 0.1
KINDS = ("startupProbe", "readinessProbe")


def has_probes(pod: Json) -> bool:
    return any("httpGet" in container.get(kind, {}) for container in pod["spec"]["containers"] for kind in KINDS)


def asked(pod: Json, clock: Clock) -> tuple[Json | None, float]:
    """(the pod as it is now if that is news, the seconds until the next question)"""
    containers = pod["spec"]["containers"]
    ready = {one["name"]: all(_answers(pod, one, one[kind]) for kind in KINDS if kind in one) for one in containers}
    whole, period = (
        all(ready.values()),
        min(one.get(k, {}).get("periodSeconds", 10) for one in containers for k in KINDS),
    )
    again = min(float(period), 1.0) if whole else UNREADY_SECONDS
    held = pod["status"].get("containerStatuses") or []
    if all(status["ready"] == ready[status["name"]] for status in held):
        return None, again
    changed = as_kubelet_says(pod, clock, whole)
    changed["status"]["containerStatuses"] = [
        {**status, "ready": ready[status["name"]], "started": status["started"] or ready[status["name"]]}
        for status in held
    ]
    return changed, again


def _answers(pod: Json, container: Json, probe: Json) -> bool:
    asked, ports = probe["httpGet"], {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
    port = ports.get(asked["port"], asked["port"])
    connection = http.client.HTTPConnection(address_of(pod["metadata"]["uid"]), int(port), timeout=LIMIT_SECONDS)
    try:
        connection.request("GET", asked.get("path", "/"))
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def init_failed(pod: Json, container: Json, clock: Clock, code: int, restarts: int, words: Sequence[str]) -> Json:
    """The pod while an init container waits to be started again; `words` are the lines that it said."""
    changed = copy.deepcopy(pod)
    uid, name = pod["metadata"]["uid"], container["name"]
    ended: Json = {"exitCode": code, "reason": "Error", "startedAt": clock.stamp(), "finishedAt": clock.stamp()}
    if container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        ended["message"] = "\n".join(words[-80:])
    waits = {"reason": "CrashLoopBackOff", "message": f"back-off restarting failed container={name}"}
    told = {"name": name, "ready": False, "started": False, "restartCount": restarts, "image": container["image"]}
    told |= {"state": {"waiting": waits}, "imageID": "", "containerID": container_id(uid, name, restarts)}
    told |= {"lastState": {"terminated": ended | {"containerID": told["containerID"]}}}
    changed["status"] |= {"phase": "Pending", "initContainerStatuses": [told]}
    return changed
