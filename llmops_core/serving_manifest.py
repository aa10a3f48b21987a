"""The manifests of a model server on Kubernetes, as plain mappings: a Deployment, its Service, its disruption budget.

A pod has three parts of two images. `fetch` (the platform's image) brings the weights by their digest from the artefact
store and hashes every byte; nothing else of the pod sees the store's credentials. `server` is the engine: llama.cpp in
the platform's image, or vLLM in the one that the settings name. `front` (the platform's image) is a proxy before the
engine, in the same pod: it gives up requests that last too long, says in each answer which version and weights gave it,
and counts how requests ended. So a canary's evidence is the same whichever gateway leads requests here.

The whole plan is kept in an annotation: what runs is read back from the cluster, by whichever process asks.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_core.engine_commands import ENGINE_PORT, WEIGHTS, WORK, command_of, environment_of
from llmops_core.fingerprint import canonical_json, digest_of
from llmops_core.gpu_needs import pool_of
from llmops_core.job_manifest import USER, hardened, quantity, toleration_of
from llmops_core.job_names import LABEL_DOMAIN, MANAGED_BY, label_value
from llmops_core.job_settings import GpuPool
from llmops_core.names import kubernetes_name
from llmops_core.routing import Deployment
from llmops_core.serving_plan import DeploymentPlan
from llmops_core.serving_settings import ClusterServingPlace

Manifest = dict[str, Any]

MANAGER = "llmops-assets-serving"  # not the jobs' own, whose watch would hear of these pods too
COMPONENT, SERVER = "app.kubernetes.io/component", "model-server"
DEPLOYMENT_LABEL = f"{LABEL_DOMAIN}/deployment"
SELECTOR = f"{MANAGED_BY}={MANAGER},{COMPONENT}={SERVER}"
PLAN, MADE_AS = f"{LABEL_DOMAIN}/plan", f"{LABEL_DOMAIN}/manifest-digest"
PORT = 8000
FETCH, FRONT, ENGINE = "fetch", "front", "server"
NAME_LENGTH = 52  # replica sets and pods append to it, and labels end at 63
PROPAGATION_SECONDS = 5  # until every proxy knows that a pod is leaving
LONGEST_DRAIN_SECONDS = 120
PROBE_SECONDS = 5
START_SECONDS = 120  # of the front, where an image is read for the first time


@dataclass(frozen=True)
class WeightStore:
    """The artefact store, as `fetch` is told of it: s3://bucket/prefix, and where that is unless it is AWS."""

    uri: str
    endpoint: str | None = None
    region: str | None = None


def object_name(deployment: str) -> str:
    """The DNS-1035 label under which a deployment's objects are found; its own name may have dots and be longer."""
    return kubernetes_name(deployment, length=NAME_LENGTH)


def address(plan: DeploymentPlan, namespace: str) -> Deployment:
    """Where the pods of a plan are reached, from anywhere in the cluster."""
    return Deployment(
        name=plan.name,
        model=plan.model,
        version=plan.version,
        weights_digest=plan.weights_digest,
        host=f"{object_name(plan.name)}.{namespace}.svc",
        port=PORT,
        timeout_seconds=plan.timeout_seconds,
    )


def deployment(
    plan: DeploymentPlan, place: ClusterServingPlace, store: WeightStore, gpus: Mapping[str, GpuPool]
) -> Manifest:
    """The Deployment. One pod more than wanted while it rolls, never one less: nobody's request waits for it."""
    name = object_name(plan.name)
    spec: Manifest = {
        "replicas": plan.replicas,
        "revisionHistoryLimit": 1,
        "progressDeadlineSeconds": place.ready_seconds,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": {DEPLOYMENT_LABEL: name}},
        "template": {
            "metadata": {
                "labels": labels(plan),
                "annotations": {f"{LABEL_DOMAIN}/weights-digest": plan.weights_digest},
            },
            "spec": _pod(plan, place, store, gpus),
        },
    }
    annotations = {PLAN: canonical_json(plan.model_dump(mode="json")).decode(), MADE_AS: digest_of(spec)}
    metadata = {"name": name, "namespace": place.namespace, "labels": labels(plan), "annotations": annotations}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def service(plan: DeploymentPlan, namespace: str, owner_uid: str) -> Manifest:
    """The Service that routes name. It goes when its Deployment goes."""
    ports = [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "selector": {DEPLOYMENT_LABEL: object_name(plan.name)}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _owned(plan, namespace, owner_uid), "spec": spec}


def disruption_budget(plan: DeploymentPlan, namespace: str, owner_uid: str) -> Manifest | None:
    """Of several replicas, a drained node takes one at a time. None for one: its node could never be drained."""
    if plan.replicas == 1:
        return None
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {DEPLOYMENT_LABEL: object_name(plan.name)}}}
    metadata = _owned(plan, namespace, owner_uid)
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


def labels(plan: DeploymentPlan) -> dict[str, str]:
    return {
        MANAGED_BY: MANAGER,
        COMPONENT: SERVER,
        DEPLOYMENT_LABEL: object_name(plan.name),
        f"{LABEL_DOMAIN}/model": label_value(plan.model),
        f"{LABEL_DOMAIN}/version": label_value(plan.version),
    }


def drain_seconds(plan: DeploymentPlan) -> int:
    """How long a pod that must go still answers: until no proxy sends it anything, and what it has is answered."""
    return PROPAGATION_SECONDS + math.ceil(min(plan.timeout_seconds, LONGEST_DRAIN_SECONDS))


def _owned(plan: DeploymentPlan, namespace: str, uid: str) -> Manifest:
    name = object_name(plan.name)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}
    return {"name": name, "namespace": namespace, "labels": labels(plan), "ownerReferences": [owner]}


def _pod(plan: DeploymentPlan, place: ClusterServingPlace, store: WeightStore, gpus: Mapping[str, GpuPool]) -> Manifest:
    pool = pool_of(plan.gpu_count, plan.gpu_type, gpus)
    borne = [toleration_of(each) for each in (*place.tolerations, *(pool.tolerations if pool else ()))]
    disk = {"emptyDir": {"sizeLimit": quantity(place.ephemeral_storage_gb)}}
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": drain_seconds(plan) + 15,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {DEPLOYMENT_LABEL: object_name(plan.name)}},
            }
        ],
        "initContainers": [_fetch(plan, place, store)],
        "containers": [_engine(plan, place, pool), _front(plan, place)],
        "volumes": [{"name": "weights", **disk}, {"name": "work", **disk}],
    }
    if pool is not None:
        shared = {"medium": "Memory", "sizeLimit": quantity(place.shared_memory_gb)}
        pod["volumes"].append({"name": "shm", "emptyDir": shared})
    optional: Manifest = {
        "nodeSelector": {**place.node_selector, **(pool.node_selector if pool else {})},
        "tolerations": borne,
        "priorityClassName": place.priority_class,
        "serviceAccountName": place.service_account,
        "imagePullSecrets": [{"name": name} for name in place.pull_secrets],
    }
    return pod | {name: value for name, value in optional.items() if value}


def _fetch(plan: DeploymentPlan, place: ClusterServingPlace, store: WeightStore) -> Manifest:
    order = {"uri": store.uri, "endpoint": store.endpoint, "region": store.region, "digest": plan.weights_digest}
    told = [
        {"name": "LLMOPS_WEIGHTS_FOLDER", "value": WEIGHTS},
        {"name": "LLMOPS_WEIGHTS", "value": canonical_json(order).decode()},
    ]
    size = {"cpu": "1", "memory": "1000M", "ephemeral-storage": quantity(place.ephemeral_storage_gb)}
    container = _container(FETCH, place.image, place, ["python", "-m", "resources.serving.weights_pod"], told, size)
    if place.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in place.secrets]
    container["volumeMounts"] += [{"name": "weights", "mountPath": WEIGHTS}]
    return container


def _front(plan: DeploymentPlan, place: ClusterServingPlace) -> Manifest:
    served = address(plan, place.namespace).model_dump(mode="json", exclude={"host", "port"})
    told = [
        {"name": "LLMOPS_FRONT", "value": canonical_json(served).decode()},
        {"name": "LLMOPS_PORTS", "value": f"{PORT} {ENGINE_PORT}"},
    ]
    size = {"cpu": "500m", "memory": "256M", "ephemeral-storage": "100M"}
    container = _container(FRONT, place.image, place, ["python", "-m", "resources.serving.pod_front"], told, size)
    container["ports"] = [{"name": "http", "containerPort": PORT, "protocol": "TCP"}]
    container["startupProbe"] = _probe("/health", "http", failures=START_SECONDS // PROBE_SECONDS)
    container["readinessProbe"] = _probe("/ready", "http", failures=2)  # asks the engine, by the way that requests take
    container["livenessProbe"] = _probe("/health", "http", failures=3)
    return container | _leaving(plan)


def _engine(plan: DeploymentPlan, place: ClusterServingPlace, pool: GpuPool | None) -> Manifest:
    image = place.vllm_image if plan.engine == "vllm" and place.vllm_image else place.image
    disk = quantity(place.ephemeral_storage_gb)  # the weights count against it as long as the pod lives
    size = {"cpu": f"{round(plan.cpu * 1000)}m", "memory": quantity(plan.memory_gb), "ephemeral-storage": disk}
    if pool is not None:
        size[pool.resource] = str(plan.gpu_count)
    command, variables = command_of(plan), environment_of(plan)
    told = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    container = _container(ENGINE, image, place, command, told, size)
    container["volumeMounts"] += [{"name": "weights", "mountPath": WEIGHTS, "readOnly": True}]
    if pool is not None:
        container["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 -- of the pod alone
    container["ports"] = [{"name": "engine", "containerPort": ENGINE_PORT, "protocol": "TCP"}]
    container["startupProbe"] = _probe("/health", "engine", failures=math.ceil(place.ready_seconds / PROBE_SECONDS))
    container["livenessProbe"] = _probe("/health", "engine", failures=6)
    return container | _leaving(plan)


def _container(
    name: str, image: str, place: ClusterServingPlace, command: list[str], told: list[Manifest], size: dict[str, str]
) -> Manifest:
    own = [{"name": "HOME", "value": f"{WORK}/{name}"}, {"name": "LLMOPS_WORK", "value": f"{WORK}/{name}"}]
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": place.pull_policy,
        "command": command,
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, *own, *told],
        "resources": {"requests": dict(size), "limits": dict(size)},  # equal, so that others are evicted first
        "securityContext": hardened(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "work", "mountPath": WORK},
            {"name": "work", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108 -- a folder of the pod's own
        ],
    }


def _probe(path: str, port: str, failures: int) -> Manifest:
    asked = {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "periodSeconds": PROBE_SECONDS}
    return asked | {"timeoutSeconds": 4, "failureThreshold": failures}


def _leaving(plan: DeploymentPlan) -> Manifest:
    return {"lifecycle": {"preStop": {"exec": {"command": ["sleep", str(drain_seconds(plan))]}}}}


def changed_by_hand(found: Mapping[str, Any], plan: DeploymentPlan) -> str:
    """What a Deployment runs that its plan does not say; empty when it runs the plan. Of the many fields, these decide
    which model answers."""
    pod = found["spec"]["template"]["spec"]
    commands = {each["name"]: each.get("command") for each in pod["containers"]}
    if commands.get(ENGINE) != command_of(plan):
        return f"its server runs {' '.join(commands.get(ENGINE) or ['nothing'])}"
    orders = [
        json.loads(variable.get("value", "{}")).get("digest")
        for container in pod.get("initContainers") or ()
        for variable in container.get("env") or ()
        if variable["name"] == "LLMOPS_WEIGHTS"
    ]
    return (
        "" if orders == [plan.weights_digest] else f"it fetches the weights {', '.join(map(str, orders)) or 'nowhere'}"
    )
