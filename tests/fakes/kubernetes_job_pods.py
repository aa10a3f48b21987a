"""The pod that a job makes from its template, and the text in which a job keeps its completed indexes."""

import copy
import re

from tests.fakes.kubernetes_store import Json

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


def pod_of(job: Json, index: int | None) -> Json:
    """With the job as its controller, the tracking finalizer, and its index where the job is indexed."""
    name, template = job["metadata"]["name"], copy.deepcopy(job["spec"]["template"])
    metadata: Json = {"finalizers": [TRACKING]}
    given = template.get("metadata") or {}
    for field in ("labels", "annotations"):
        if given.get(field):
            metadata[field] = given[field]
    metadata["generateName"] = f"{name}-"
    metadata["ownerReferences"] = [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": job["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    spec = template["spec"]
    if index is not None:
        ending = f"-{index}-"
        metadata["generateName"] = name[: 58 - len(ending)] + ending
        metadata.setdefault("labels", {})[INDEX] = str(index)
        metadata.setdefault("annotations", {})[INDEX] = str(index)
        spec["hostname"] = f"{name}-{index}"
        source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            if all(variable["name"] != "JOB_COMPLETION_INDEX" for variable in container.get("env", [])):
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def indexes_of(text: str) -> set[int]:
    """`0-2,5` is {0, 1, 2, 5}."""
    found: set[int] = set()
    for part in re.findall(r"(\d+)(?:-(\d+))?", text):
        found |= set(range(int(part[0]), int(part[1] or part[0]) + 1))
    return found


def ranges_of(indexes: set[int]) -> str:
    parts: list[str] = []
    first = last = -2
    for index in sorted(indexes):
        if index == last + 1:
            last = index
            parts[-1] = f"{first},{last}" if last == first + 1 else f"{first}-{last}"
            continue
        first = last = index
        parts.append(str(index))
    return ",".join(parts)
