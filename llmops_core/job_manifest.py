"""The manifests of a job on Kubernetes, as plain mappings: a Job, or a Kubeflow TrainJob, and its headless Service.

A job gets one pod, or one for each node when it needs more GPUs than a node has; then the pods find each other by the
Service, and torchrun reads its PET_ variables. Nothing is retried by the cluster (`backoffLimit: 0`): the door decides,
because only it knows whether the node or the program was at fault. Pods run as nobody in particular, without a token of
the cluster, on a read-only root; they write to /scratch, which is theirs and bounded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_core import job_names
from llmops_core.cost import Spent
from llmops_core.job_names import JobIdentity
from llmops_core.job_settings import ClusterJobsPlace, GpuPool, Toleration

Manifest = dict[str, Any]

CONTAINER, WORK = "recipe", "/scratch"
USER = 10001  # the image's own
GRACE_SECONDS = 60  # for a last checkpoint and the last words
RENDEZVOUS_PORT = 29500
TRAIN_JOB = "trainer.kubeflow.org/v1alpha1"
POD_PROGRAM = ("python", "-m", "resources.job_pod")
# Of a runtime of Kubeflow's trainer: the replicated job and the container that train.
TRAINER_NODE = "node"


@dataclass(frozen=True)
class Needs:
    """What one job needs in all; `memory_gb` and `cpu` are of each pod."""

    memory_gb: float = 4
    cpu: float = 1
    gpu_count: int = 0
    gpu_type: str | None = None


@dataclass(frozen=True)
class Attempt:
    """One try of a job, for the run `run_id`. `environment` tells the pod where its order is; it holds no secret."""

    identity: JobIdentity
    number: int
    run_id: str
    needs: Needs
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        return job_names.job_name(self.identity, self.number)


def nodes_of(needs: Needs, place: ClusterJobsPlace) -> int:
    """How many pods the job gets."""
    pool = _pool(needs, place)
    return 1 if pool is None else max(1, math.ceil(needs.gpu_count / pool.per_node))


def job(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    """The object to create: a TrainJob where the settings say so and there are GPUs to train on, else a Job."""
    if place.workload == "train_job" and attempt.needs.gpu_count:
        return _train_job(attempt, place)
    nodes = nodes_of(attempt.needs, place)
    labels = job_names.labels(attempt.identity, attempt.number, attempt.run_id)
    annotations = job_names.annotations(attempt.identity)
    spec: Manifest = {
        "backoffLimit": 0,
        "parallelism": nodes,
        "completions": nodes,
        "completionMode": "Indexed" if nodes > 1 else "NonIndexed",
        "activeDeadlineSeconds": place.deadline_seconds,
        "ttlSecondsAfterFinished": place.kept_seconds,
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod(attempt, place, nodes)},
    }
    queued = _queue(place, spec)
    metadata = _metadata(attempt, place) | {"labels": labels | queued, "annotations": annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def service(attempt: Attempt, place: ClusterJobsPlace, owner_uid: str) -> Manifest | None:
    """The Service by which the pods of several nodes find the first; None for one pod. It goes when its Job goes."""
    if nodes_of(attempt.needs, place) == 1 or (place.workload == "train_job"):
        return None
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": attempt.name, "uid": owner_uid}
    labels = job_names.labels(attempt.identity, attempt.number, attempt.run_id)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(attempt, place) | {"labels": labels, "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they meet before any is ready
            "selector": {job_names.NAME_LABEL: attempt.name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def _train_job(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    """What the runtime does not say: image, command, size; its pods get our labels, rights and nodes by a patch.

    A patch cannot say that no token is mounted and that the root is read-only on all versions: the runtime must.
    """
    nodes = nodes_of(attempt.needs, place)
    labels = job_names.labels(attempt.identity, attempt.number, attempt.run_id)
    annotations = job_names.annotations(attempt.identity)
    pod = _pod(attempt, place, 1)
    container: Manifest = pod["containers"][0]
    kept = ("nodeSelector", "tolerations", "serviceAccountName", "imagePullSecrets", "securityContext")
    volumes = [{"name": f"secret-{i}", "secret": {"secretName": name}} for i, name in enumerate(place.secrets)]
    mounts = [
        {"name": f"secret-{i}", "mountPath": f"{job_names.SECRETS}/{name}", "readOnly": True}
        for i, name in enumerate(place.secrets)
    ]
    patched = {
        **{name: pod[name] for name in kept if name in pod},
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "volumes": [*pod["volumes"], *volumes],
        "containers": [
            {
                "name": TRAINER_NODE,
                "securityContext": container["securityContext"],
                "volumeMounts": [*container["volumeMounts"], *mounts],
            }
        ],
    }
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": patched}
    replicated = [{"name": TRAINER_NODE, "template": {"spec": {"template": template}}}]
    spec: Manifest = {
        "runtimeRef": {"name": place.runtime, "kind": "ClusterTrainingRuntime", "apiGroup": TRAIN_JOB.split("/")[0]},
        "activeDeadlineSeconds": place.deadline_seconds,
        "trainer": {
            "image": place.image,
            "command": list(POD_PROGRAM),
            "env": container["env"],
            "numNodes": nodes,
            "numProcPerNode": _gpus_of_a_pod(attempt.needs, nodes),
            "resourcesPerNode": container["resources"],
        },
        "runtimePatches": [
            {
                "manager": "llmops.dev/jobs",
                "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": replicated}}},
            }
        ],
    }
    queued = _queue(place, spec)
    metadata = _metadata(attempt, place) | {"labels": labels | queued, "annotations": annotations}
    return {"apiVersion": TRAIN_JOB, "kind": "TrainJob", "metadata": metadata, "spec": spec}


def _metadata(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    return {"name": attempt.name, "namespace": place.namespace}


def _queue(place: ClusterJobsPlace, spec: Manifest) -> dict[str, str]:
    """The label that Kueue reads; a job with a queue begins suspended, and Kueue resumes it when there is room."""
    if place.queue is None:
        return {}
    spec["suspend"] = True
    return {"kueue.x-k8s.io/queue-name": place.queue}


def _pool(needs: Needs, place: ClusterJobsPlace) -> GpuPool | None:
    return pool_of(needs.gpu_count, needs.gpu_type, place.gpus)


def pool_of(count: int, kind: str | None, gpus: Mapping[str, GpuPool]) -> GpuPool | None:
    """Where so many GPUs of a kind are, None for none of them; of the first kind that there is for any kind."""
    if not count:
        return None
    return gpus.get(kind, GpuPool()) if kind is not None else next(iter(gpus.values()), GpuPool())


def _gpus_of_a_pod(needs: Needs, nodes: int) -> int:
    return math.ceil(needs.gpu_count / nodes)


def _pod(attempt: Attempt, place: ClusterJobsPlace, nodes: int) -> Manifest:
    needs = attempt.needs
    pool = _pool(needs, place)
    selector = {**place.node_selector, **(pool.node_selector if pool else {})}
    borne = [toleration_of(each) for each in (*place.tolerations, *(pool.tolerations if pool else ()))]
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(attempt, place, pool, nodes)],
        "volumes": [
            {"name": "work", "emptyDir": {"sizeLimit": quantity(place.ephemeral_storage_gb)}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(place.shared_memory_gb)}},
        ],
    }
    optional: Manifest = {
        "nodeSelector": selector,
        "tolerations": borne,
        "priorityClassName": place.priority_class,
        "serviceAccountName": place.service_account,
        "imagePullSecrets": [{"name": name} for name in place.pull_secrets],
        "subdomain": attempt.name if nodes > 1 else None,
    }
    return pod | {name: value for name, value in optional.items() if value}


def hardened() -> Manifest:
    """What every container of ours may not do."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def _container(attempt: Attempt, place: ClusterJobsPlace, pool: GpuPool | None, nodes: int) -> Manifest:
    needs = attempt.needs
    size = {
        "cpu": f"{round(needs.cpu * 1000)}m",
        "memory": quantity(needs.memory_gb),
        "ephemeral-storage": quantity(place.ephemeral_storage_gb),
    }
    if pool is not None:
        size[pool.resource] = str(_gpus_of_a_pod(needs, nodes))
    return {
        "name": CONTAINER,
        "image": place.image,
        "imagePullPolicy": place.pull_policy,
        "command": list(POD_PROGRAM),
        "env": _environment(attempt, nodes),
        **({"envFrom": [{"secretRef": {"name": name}} for name in place.secrets]} if place.secrets else {}),
        "resources": {"requests": dict(size), "limits": dict(size)},  # equal, so that others are evicted first
        "securityContext": hardened(),
        # the end of its output is then in the pod's status, also when nothing else could be sent
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "work", "mountPath": WORK},
            {"name": "work", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108 -- a folder of the pod's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 -- torch's workers share tensors here
        ],
    }


def _environment(attempt: Attempt, nodes: int) -> list[Manifest]:
    told = {"HOME": f"{WORK}/home", "LLMOPS_WORK": WORK, **attempt.environment}
    variables: list[Manifest] = [{"name": name, "value": value} for name, value in sorted(told.items())]
    variables.append({"name": "LLMOPS_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}})
    if attempt.needs.gpu_count > 1:
        processes = str(_gpus_of_a_pod(attempt.needs, nodes))
        variables.append({"name": "PET_NPROC_PER_NODE", "value": processes})
    if nodes > 1:
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        variables += [
            {"name": "PET_NNODES", "value": str(nodes)},
            {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": index}}},
            {"name": "PET_MASTER_ADDR", "value": f"{attempt.name}-0.{attempt.name}"},
            {"name": "PET_MASTER_PORT", "value": str(RENDEZVOUS_PORT)},
        ]
    return variables


def toleration_of(toleration: Toleration) -> Manifest:
    """As a pod's specification has it."""
    borne = {"key": toleration.key, "operator": "Exists" if toleration.value is None else "Equal"}
    optional = {"value": toleration.value, "effect": toleration.effect}
    return borne | {name: value for name, value in optional.items() if value is not None}


def quantity(gigabytes: float) -> str:
    """Gigabytes as Kubernetes writes them."""
    return f"{round(gigabytes * 1000)}M"


def spent(name: str, number: int, outcome: str, seconds: float, needs: Needs, place: ClusterJobsPlace) -> Spent:
    """The bill of one attempt that ran for `seconds` on all its nodes."""
    pool = _pool(needs, place)
    if pool is None:
        return Spent(name, number, outcome, seconds)
    kind = needs.gpu_type or next(iter(place.gpus), "")
    return Spent(name, number, outcome, seconds, needs.gpu_count, kind, pool.price_per_hour)
