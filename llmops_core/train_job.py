"""A training on GPUs as a Kubeflow TrainJob, for clusters whose controller schedules and shows them.

A TrainJob says what is trained and by how many; how a pod looks is said by its runtime, of which it may patch only some
fields: not that nothing is retried (a Job in it has six restarts unless it says otherwise), not that no token is
mounted, no secret's variables, no read-only root. So the door makes a TrainingRuntime of its own beside it, named after
its content: all attempts on the same nodes share one, and a change of the settings makes another.

The trainer's own plugin for torch tells each pod its rank and the first node by PET_ variables, and refuses a TrainJob
that names one of them. Nothing removes a TrainJob that has ended, so the door does when its end is written down.
"""

from llmops_core import job_names
from llmops_core.fingerprint import digest_of
from llmops_core.gpu_needs import pool_of
from llmops_core.job_manifest import (
    POD_PROGRAM,
    Attempt,
    Manifest,
    container_of,
    metadata_of,
    pod_of,
    queued,
    resources_of,
    spread_of,
    store_of,
    told,
)
from llmops_core.job_settings import ClusterJobsPlace

GROUP, VERSION = "trainer.kubeflow.org", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
DISTRIBUTED = ("pretrain", "finetune")
# The trainer knows the replicated job and the container that train by these.
NODE = "node"
TRAINS = {f"{GROUP}/trainjob-ancestor-step": "trainer"}


def is_train_job(attempt: Attempt, place: ClusterJobsPlace) -> bool:
    """Whether the attempt is one where the settings say so: what does not train, or needs no GPU, is a Job."""
    trains = attempt.identity.recipe in DISTRIBUTED and attempt.needs.gpu_count > 0
    return trains and place.workload == "train_job"


def training_runtime(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    """What all attempts on the same nodes have in common."""
    pool = pool_of(attempt.needs.gpu_count, attempt.needs.gpu_type, place.gpus)
    job = {
        "backoffLimit": 0,  # the door decides what is tried again
        "template": {"spec": pod_of(container_of(NODE, place.image, place), place, pool)},
    }
    replicated = {"name": NODE, "replicas": 1, "template": {"metadata": {"labels": dict(TRAINS)}, "spec": job}}
    template = {"spec": {"failurePolicy": {"maxRestarts": 0}, "replicatedJobs": [replicated]}}
    spec: Manifest = {"mlPolicy": {"numNodes": 1, "torch": {}}, "template": template}
    labels = {job_names.MANAGED_BY: job_names.MANAGER}
    metadata = {"name": f"llmops-{digest_of(spec)[:12]}", "namespace": place.namespace, "labels": labels}
    return {"apiVersion": API_VERSION, "kind": "TrainingRuntime", "metadata": metadata, "spec": spec}


def train_job(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    """The TrainJob to create, when its runtime is there. Its pods bear the labels of a Job's."""
    sized = spread_of(attempt.needs, place)
    runtime = training_runtime(attempt, place)["metadata"]["name"]
    spec: Manifest = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": runtime},
        "activeDeadlineSeconds": place.deadline_seconds,
        "trainer": {
            "image": attempt.image or place.image,
            "command": list(POD_PROGRAM),
            "env": told(attempt),
            "numNodes": sized.nodes,
            "numProcPerNode": sized.gpus,
            "resourcesPerNode": resources_of(attempt.needs, place),
        },
        "runtimePatches": [_labelled(attempt, place)],
    }
    labels = job_names.labels(attempt.identity, attempt.number, attempt.run_id) | queued(place, spec)
    annotations = job_names.annotations(attempt.identity, store_of(place))
    metadata = metadata_of(attempt, place) | {"labels": labels, "annotations": annotations}
    return {"apiVersion": API_VERSION, "kind": "TrainJob", "metadata": metadata, "spec": spec}


def _labelled(attempt: Attempt, place: ClusterJobsPlace) -> Manifest:
    labels = job_names.labels(attempt.identity, attempt.number, attempt.run_id)
    metadata = {"labels": labels, "annotations": job_names.annotations(attempt.identity, store_of(place))}
    replicated = [{"name": NODE, "template": {"spec": {"template": {"metadata": metadata}}}}]
    spec = {"template": {"spec": {"replicatedJobs": replicated}}}
    return {"manager": f"{job_names.LABEL_DOMAIN}/jobs", "trainingRuntimeSpec": spec}
