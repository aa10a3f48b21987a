"""What can be said of a job and its pods by looking at them."""

from tests.fakes.kubernetes_job_pods import INDEX, indexes_of
from tests.fakes.kubernetes_store import Json


def condition(found: Json, name: str) -> Json | None:
    held = (found.get("status") or {}).get("conditions") or []
    return next((one for one in held if one["type"] == name and one["status"] == "True"), None)


def is_finished(job: Json) -> bool:
    return condition(job, "Complete") is not None or condition(job, "Failed") is not None


def is_over(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def is_leaving(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def restarts_exceeded(job: Json, pods: list[Json]) -> bool:
    if job["spec"]["template"]["spec"]["restartPolicy"] != "OnFailure":
        return False
    restarts = sum(
        container.get("restartCount", 0)
        for pod in pods
        if pod["status"].get("phase") in ("Running", "Pending")
        for container in pod["status"].get("containerStatuses") or []
    )
    return restarts > 0 if job["spec"]["backoffLimit"] == 0 else restarts >= job["spec"]["backoffLimit"]


def has_ended(job: Json, pod: Json, failed: bool) -> bool:
    phase = pod["status"].get("phase")
    if not failed:
        return phase == "Succeeded"
    replaces_failed_only = job["spec"].get("podReplacementPolicy") == "Failed"
    return phase == "Failed" or (is_leaving(pod) and phase != "Succeeded" and not replaces_failed_only)


def succeeded_indexes(job: Json, pods: list[Json]) -> set[int]:
    new = {int(pod["metadata"]["annotations"][INDEX]) for pod in pods if pod["status"].get("phase") == "Succeeded"}
    return indexes_of(job["status"].get("completedIndexes", "")) | new


def count(status: Json, pods: list[Json]) -> None:
    active = [pod for pod in pods if not is_over(pod) and not is_leaving(pod)]
    ready = sum(
        any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions") or [])
        for pod in active
    )
    status["ready"] = ready
    status["terminating"] = sum(is_leaving(pod) and not is_over(pod) for pod in pods)
    status.pop("active", None)
    if active:
        status["active"] = len(active)
