"""The manifests of a job on Kubernetes, as plain mappings: a Job and its headless Service, or a TrainJob (train_job).

A job gets one pod, or one for each node when it needs more GPUs than a node has; then the pods find each other by the
Service, and torchrun reads its PET_ variables. Nothing is retried by the cluster (`backoffLimit: 0`): the door decides,
because only it knows whether the node or the program was at fault. Pods run as nobody in particular, without a token of
the cluster, on a read-only root; they write to /scratch, which is theirs and bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_core import gpu_needs, job_names
from llmops_core.cost import Spent
from llmops_core.gpu_needs import Spread, pool_of
from llmops_core.job_names import JobIdentity
from llmops_core.job_settings import ClusterJobsPlace, GpuPool, Toleration

Manifest = dict[str, Any]

CONTAINER, WORK = "recipe", "/scratch"
USER = 10001  # the image's own
GRACE_SECONDS = 60  # for a last checkpoint and the last words
RENDEZVOUS_PORT = 29500
POD_PROGRAM = ("python", "-m", "resources.jobs.job_pod")


@dataclass(frozen=True)
class Needs:
    """What one job needs in all; `memory_gb` and `cpu` are of each pod."""

    memory_gb: float = 4
    cpu: float = 1
    gpu_count: int = 0
    gpu_type: str | None = None


@dataclass(frozen=True)
class Attempt:
    """One try of a job, for the run `run_id`. `environment` tells the pod where its order is; it holds no secret.
    `image` is another than that of all jobs, where the recipe needs one."""

    identity: JobIdentity
    number: int
    run_id: str
    needs: Needs
    environment: Mapping[str, str]
    image: str | None = None

    @property
    def name(self) -> str:
        return job_names.job_name(self.identity, self.number)


def spread_of(needs: Needs, place: ClusterJobsPlace) -> Spread:
    """The pods that the job gets."""
    return gpu_needs.spread(needs.gpu_count, needs.gpu_type, place.gpus)


def job(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    """The Job to create."""
    nodes = spread_of(attempt.needs, place).nodes
    labels = job_names.labels(attempt.identity, attempt.number, attempt.run_id)
    annotations = job_names.annotations(attempt.identity, store_of(place))
    spec: Manifest = {
        "backoffLimit": 0,
        "parallelism": nodes,
        "completions": nodes,
        "completionMode": "Indexed" if nodes > 1 else "NonIndexed",
        "activeDeadlineSeconds": place.deadline_seconds,
        "ttlSecondsAfterFinished": place.kept_seconds,
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod(attempt, place)},
    }
    metadata = metadata_of(attempt, place) | {"labels": labels | queued(place, spec), "annotations": annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def service(attempt: Attempt, place: ClusterJobsPlace, owner_uid: str) -> Manifest | None:
    """The Service by which the pods of several nodes find the first; None for one pod. It goes when its Job goes."""
    if spread_of(attempt.needs, place).nodes == 1:
        return None
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": attempt.name, "uid": owner_uid}
    labels = job_names.labels(attempt.identity, attempt.number, attempt.run_id)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata_of(attempt, place) | {"labels": labels, "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they meet before any is ready
            "selector": {job_names.NAME_LABEL: attempt.name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def store_of(place: ClusterJobsPlace) -> str:
    """Where its jobs are exchanged, by which a platform knows them."""
    return f"{place.store.uri.rstrip('/')} at {place.store.endpoint or 'AWS'}"


def metadata_of(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    return {"name": attempt.name, "namespace": place.namespace}


def queued(place: ClusterJobsPlace, spec: Manifest) -> dict[str, str]:
    """The label that Kueue reads; a job with a queue begins suspended, and Kueue resumes it when there is room."""
    if place.queue is None:
        return {}
    spec["suspend"] = True
    return {"kueue.x-k8s.io/queue-name": place.queue}


def _pod(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    sized = spread_of(attempt.needs, place)
    pool = pool_of(attempt.needs.gpu_count, attempt.needs.gpu_type, place.gpus)
    container = container_of(CONTAINER, attempt.image or place.image, place) | {
        "env": [*told(attempt), *_rendezvous(attempt, sized)],
        "resources": resources_of(attempt.needs, place),
    }
    meeting = {"subdomain": attempt.name} if sized.nodes > 1 else {}
    return pod_of(container, place, pool) | meeting


def pod_of(container: Manifest, place: ClusterJobsPlace, pool: GpuPool | None) -> Manifest:
    """What holds for the pods of all jobs on these nodes."""
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
        "containers": [container],
        "volumes": [
            {"name": "work", "emptyDir": {"sizeLimit": quantity(place.ephemeral_storage_gb)}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(place.shared_memory_gb)}},
        ],
    }
    optional: Manifest = {
        "nodeSelector": {**place.node_selector, **(pool.node_selector if pool else {})},
        "tolerations": borne,
        "priorityClassName": place.priority_class,
        "serviceAccountName": place.service_account,
        "imagePullSecrets": [{"name": name} for name in place.pull_secrets],
    }
    return pod | {name: value for name, value in optional.items() if value}


def hardened() -> Manifest:
    """What every container of ours may not do."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def container_of(name: str, image: str, place: ClusterJobsPlace) -> Manifest:
    """What holds for every attempt."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": place.pull_policy,
        "command": list(POD_PROGRAM),
        **({"envFrom": [{"secretRef": {"name": name}} for name in place.secrets]} if place.secrets else {}),
        "securityContext": hardened(),
        # the end of its output is then in the pod's status, also when nothing else could be sent
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "work", "mountPath": WORK},
            {"name": "work", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108 -- a folder of the pod's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 -- torch's workers share tensors here
        ],
    }


def resources_of(needs: Needs, place: ClusterJobsPlace) -> Manifest:
    """Of each pod; requests are limits, so that others are evicted first."""
    size = {
        "cpu": f"{round(needs.cpu * 1000)}m",
        "memory": quantity(needs.memory_gb),
        "ephemeral-storage": quantity(place.ephemeral_storage_gb),
    }
    pool = pool_of(needs.gpu_count, needs.gpu_type, place.gpus)
    if pool is not None:
        size[pool.resource] = str(spread_of(needs, place).gpus)
    return {"requests": dict(size), "limits": dict(size)}


def told(attempt: Attempt) -> list[Manifest]:
    """The environment that tells the pod its order."""
    known = {"HOME": f"{WORK}/home", "LLMOPS_WORK": WORK, **attempt.environment}
    variables: list[Manifest] = [{"name": name, "value": value} for name, value in sorted(known.items())]
    return [*variables, {"name": "LLMOPS_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]


def _rendezvous(attempt: Attempt, sized: Spread) -> list[Manifest]:
    """What torchrun reads. Processes of one pod meet without it."""
    variables: list[Manifest] = []
    if sized.total > 1:
        variables.append({"name": "PET_NPROC_PER_NODE", "value": str(sized.gpus)})
    if sized.nodes > 1:
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        variables += [
            {"name": "PET_NNODES", "value": str(sized.nodes)},
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
    pool = pool_of(needs.gpu_count, needs.gpu_type, place.gpus)
    if pool is None:
        return Spent(name, number, outcome, seconds)
    kind = needs.gpu_type or next(iter(place.gpus), "")
    return Spent(name, number, outcome, seconds, spread_of(needs, place).total, kind, pool.price_per_hour)
