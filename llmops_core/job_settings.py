"""Where jobs run: child processes of this machine, or Jobs of a Kubernetes cluster with GPUs.

What is asked of a cluster differs between staging and production and stands in config/<environment>.yaml. Secrets are
named, never written: pods get them from the cluster.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llmops_core.fields import Label, Listing, Strict, Text, Violation, refuse
from llmops_core.platform_settings import Bucket

Namespace = Annotated[str, Text(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a Kubernetes namespace", 63)]
ObjectName = Annotated[
    str,
    Text(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "the name of a Kubernetes object", 253),
]
LabelKey = Annotated[
    str,
    Text(
        r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        "a key of a Kubernetes label, such as cloud.google.com/gke-spot",
        317,
    ),
]
LabelValue = Annotated[
    str, Text(r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", "a value of a Kubernetes label, such as a100", 63)
]
Image = Annotated[
    str,
    Text(
        r"^[a-z0-9]([-a-z0-9._/:]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?$",
        "an image, such as registry.example.com/llmops-training@sha256:…",
        512,
    ),
]
REAPING_SECONDS = 300  # until the reaper, which looks every minute, has surely billed a job that ended unseen
Gigabytes = Annotated[float, Field(gt=0, le=65536)]


class Toleration(Strict):
    """A taint that the pods of jobs bear, such as that of a spot pool."""

    key: LabelKey = Field(description="Key of the taint.")
    value: LabelValue | None = Field(default=None, description="Its value; any value where left out.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Its effect; all effects where left out."
    )


class GpuPool(Strict):
    """Where the GPUs of one kind are, and what they cost."""

    resource: LabelKey = Field(default="nvidia.com/gpu", description="The name under which nodes offer these GPUs.")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default={}, max_length=20, description="Labels of the nodes that have them."
    )
    tolerations: Listing[Toleration] = Field(default=(), max_length=20, description="Taints of these nodes.")
    per_node: int = Field(default=8, ge=1, le=64, description="GPUs of one node; larger jobs get several.")
    price_per_hour: float = Field(default=0, ge=0, description="What an hour of one GPU costs.")


class LocalJobsPlace(Strict):
    """Jobs as child processes of the run."""

    kind: Literal["local"] = Field(description="Processes on this machine.")


class ClusterJobsPlace(Strict):
    """Jobs on Kubernetes."""

    kind: Literal["kubernetes"] = Field(description="Jobs of a Kubernetes cluster.")
    namespace: Namespace = Field(description="The namespace of the jobs.")
    image: Image = Field(description="The image that they run; pin it by digest.")
    store: Bucket = Field(description="Where inputs, messages, checkpoints and results are exchanged.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When nodes pull the image."
    )
    pull_secrets: Listing[ObjectName] = Field(
        default=(), max_length=10, description="Secrets with which nodes pull the image."
    )
    secrets: Listing[ObjectName] = Field(
        default=(), max_length=10, description="Secrets whose keys become environment variables of the pods."
    )
    service_account: ObjectName | None = Field(
        default=None, description="Service account of the pods; they get no token of it."
    )
    workload: Literal["job", "train_job"] = Field(
        default="job",
        description="What trains on GPUs: a batch/v1 Job, or a Kubeflow TrainJob where the cluster has its controller.",
    )
    queue: ObjectName | None = Field(default=None, description="The Kueue queue that admits the jobs, if there is one.")
    priority_class: ObjectName | None = Field(default=None, description="Priority class of the pods.")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default={}, max_length=20, description="Labels of the nodes that jobs may run on, with GPUs or without."
    )
    tolerations: Listing[Toleration] = Field(
        default=(), max_length=20, description="Taints that every job bears, such as those of spot nodes."
    )
    gpus: dict[Label, GpuPool] = Field(
        default={}, max_length=20, description="Where the GPUs of each kind are; keys such as a100."
    )
    memory_ladder_gb: Listing[Gigabytes] = Field(
        default=(), max_length=10, description="Sizes in gigabytes that follow when a job ran out of memory, rising."
    )
    shared_memory_gb: Gigabytes = Field(default=8, description="Size of /dev/shm in gigabytes.")
    ephemeral_storage_gb: Gigabytes = Field(default=100, description="Disk that a pod may fill, in gigabytes.")
    deadline_seconds: int = Field(
        default=86400, ge=60, le=2592000, description="A job that runs longer is ended, badly."
    )
    pending_seconds: int = Field(
        default=900, ge=1, le=604800, description="How long a pod may wait for its image or for a node."
    )
    checkpoint_seconds: int = Field(
        default=600, ge=10, le=86400, description="How often a training keeps what it has reached."
    )
    kept_seconds: int = Field(
        default=86400,
        ge=60,
        le=2592000,
        description=f"How long a finished job stays; at least {REAPING_SECONDS} more than orphan_seconds.",
    )
    orphan_seconds: int = Field(
        default=300, ge=1, le=86400, description="How long a job outlives its run; a new run may take it over."
    )

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        refuse(_violations(self))
        return self


def _violations(place: ClusterJobsPlace) -> Iterator[Violation]:
    for index in range(1, len(place.memory_ladder_gb)):
        before, size = place.memory_ladder_gb[index - 1 : index + 1]
        if size <= before:
            yield Violation(("memory_ladder_gb", index), size, f"more than {before}", "the sizes must rise")
    least = place.orphan_seconds + REAPING_SECONDS
    if place.kept_seconds < least:
        wanted = f"at least {least}, {REAPING_SECONDS} more than orphan_seconds"
        why = "a job that ends when nobody follows it would be gone before it is billed; keep it longer"
        yield Violation(("kept_seconds",), place.kept_seconds, wanted, why)


JobsPlace = Annotated[LocalJobsPlace | ClusterJobsPlace, Field(discriminator="kind")]
