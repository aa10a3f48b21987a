"""Small manifests for tests of what speaks to Kubernetes."""

from typing import Any

Json = dict[str, Any]
NAMESPACE = "llm"  # of the fixture `stand_in`


def job(name: str, command: list[str] | None = None, **spec: Any) -> Json:
    """A job of one container `main`. `pod` and `container` are merged into those, the rest into the job's spec."""
    pod, container = spec.pop("pod", {}), spec.pop("container", {})
    main = {"name": "main", "image": "img:1", "command": command or ["true"], **container}
    template = {"metadata": {"labels": {"t": "1"}}, "spec": {"restartPolicy": "Never", "containers": [main], **pod}}
    metadata = {"name": name, "labels": {"app": "x"}}
    spec = {"backoffLimit": 0, "template": template} | spec
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def config_map(name: str, **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


def deployment(name: str, image: str, replicas: int = 2) -> Json:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": image, "command": ["sleep", "600"]}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def conditions(found: Json) -> list[str]:
    """The types of conditions that hold, in their order."""
    held = (found.get("status") or {}).get("conditions") or []
    return [one["type"] for one in held if one["status"] == "True"]
