"""What the API server fills in before it stores: defaults of pods, jobs, deployments and services, as versions 1.36 do.
Each function changes the object it is given."""

from typing import Any

Json = dict[str, Any]
TOLERATED_SECONDS = 300


def of_pod_spec(spec: Json) -> None:
    for name, value in {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
    }.items():
        spec.setdefault(name, value)
    spec.setdefault("securityContext", {})
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        _of_container(container)
    for volume in spec.get("volumes", []):
        _of_volume(volume)


def _of_container(container: Json) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    for values in container["resources"].values():
        if isinstance(values, dict):
            values |= {name: str(value) for name, value in values.items()}
    for variable in container.get("env", []):
        source = (variable.get("valueFrom") or {}).get("fieldRef")
        if source:
            source.setdefault("apiVersion", "v1")
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            wanted = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
            container[probe] = wanted | container[probe]
            if "httpGet" in container[probe]:
                container[probe]["httpGet"].setdefault("scheme", "HTTP")
                container[probe]["httpGet"].setdefault("path", "/")


def _of_volume(volume: Json) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "projected", "downwardAPI"):
        if source in volume:
            volume[source].setdefault("defaultMode", 0o644)


def of_pod(pod: Json) -> None:
    """Also what the admission plug-ins of pods add: tolerations of lost nodes, service account, priority."""
    spec = pod["spec"]
    of_pod_spec(spec)
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        for name, value in (container["resources"].get("limits") or {}).items():
            container["resources"].setdefault("requests", {}).setdefault(name, value)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(
            held.get("key") in (key, None, "") and held.get("effect") in ("NoExecute", None) for held in tolerations
        ):
            added = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED_SECONDS}
            tolerations.append(added)
    pod["status"] = {"phase": "Pending", "qosClass": _quality(spec)}


def _quality(spec: Json) -> str:
    """By processor and memory alone: a pod that asks for nothing but GPUs is BestEffort."""
    asked = [container["resources"] for container in spec.get("containers", [])]
    limits = [resources.get("limits") or {} for resources in asked]
    requests = [resources.get("requests") or {} for resources in asked]
    if not any({"cpu", "memory"} & held.keys() for held in [*limits, *requests]):
        return "BestEffort"
    pairs = zip(limits, requests, strict=True)
    full = all(
        limit.get(name) and limit[name] == request.get(name) for limit, request in pairs for name in ("cpu", "memory")
    )
    return "Guaranteed" if full else "Burstable"


def of_job(job: Json, uid: str) -> None:
    """Labels of the template and the selector follow from the job's uid, unless `manualSelector`."""
    spec = job["spec"]
    of_pod_spec(spec["template"].setdefault("spec", {}))
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 2**31 - 1 if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    name = job["metadata"]["name"]
    if not spec["manualSelector"]:
        old = {"job-name": name, "controller-uid": uid}
        labels = {f"batch.kubernetes.io/{key}": value for key, value in old.items()} | old
        template = spec["template"].setdefault("metadata", {})
        template["labels"] = (template.get("labels") or {}) | labels
        given = (spec.get("selector") or {}).get("matchLabels") or {}
        spec["selector"] = {"matchLabels": given | {"batch.kubernetes.io/controller-uid": uid}}
    job["status"] = {}


def of_deployment(deployment: Json) -> None:
    spec = deployment["spec"]
    of_pod_spec(spec["template"].setdefault("spec", {}))
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxUnavailable": "25%", "maxSurge": "25%"} | strategy.get("rollingUpdate", {})
    deployment.setdefault("status", {})


def of_replica_set(replica_set: Json) -> None:
    of_pod_spec(replica_set["spec"]["template"].setdefault("spec", {}))
    replica_set["spec"].setdefault("replicas", 1)
    replica_set.setdefault("status", {"replicas": 0})


def of_service(service: Json, address: str) -> None:
    spec = service["spec"]
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    spec.setdefault("clusterIP", address)
    spec.setdefault("clusterIPs", [spec["clusterIP"]])
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])
    service.setdefault("status", {"loadBalancer": {}})
