"""Where model servers run: programs of this machine, or pods of a Kubernetes cluster behind a Gateway.

On a cluster three more things must be named: the image of the servers, the Gateway that routes are attached to with the
address by which clients reach it, and the Prometheus that knows what became of their requests. Where the GPUs of each
kind are stands under `jobs.gpus`: training and serving ask for the same nodes.
"""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from llmops_core.fields import Listing, Strict, Violation, refuse
from llmops_core.job_settings import Gigabytes, Image, LabelKey, LabelValue, Namespace, ObjectName, Toleration
from llmops_core.platform_settings import Secret
from llmops_core.training_spec import EndpointUrl

# What a change of makes no other server: a release that differs in these alone is the same deployment.
NOT_OF_A_SERVER = ("gateway", "prometheus", "ready_seconds")


class LocalServingPlace(Strict):
    """Model servers as programs of this machine."""

    kind: Literal["local"] = Field(description="Processes on this machine.")


class GatewayPlace(Strict):
    """The Gateway (gateway.networking.k8s.io/v1) of the same namespace that models' routes are attached to."""

    name: ObjectName = Field(description="Name of the Gateway.")
    listener: ObjectName | None = Field(
        default=None, description="The listener to attach to; without it also one that is not encrypted."
    )
    url: EndpointUrl = Field(description="Where clients reach it, such as https://models.example.com.")

    @model_validator(mode="after")
    def _no_path(self) -> Self:
        if urlsplit(self.url).path not in ("", "/"):
            message = "models' paths begin at the gateway's own; leave the path out"
            refuse([Violation(("url",), self.url, "an address without a path", message)])
        return self


class PrometheusServer(Strict):
    """A Prometheus, or what answers its HTTP API."""

    url: EndpointUrl = Field(description="Address of the server.")
    token: Secret | None = Field(default=None, description="Where the access token is read, if it needs one.")


class ClusterServingPlace(Strict):
    """Model servers as Deployments of a Kubernetes cluster."""

    kind: Literal["kubernetes"] = Field(description="Pods of a Kubernetes cluster.")
    namespace: Namespace = Field(description="The namespace of servers, routes and the Gateway.")
    image: Image = Field(description="The platform's image: it fetches weights, counts requests, runs llama.cpp.")
    vllm_image: Image | None = Field(
        default=None,
        description="The image of vLLM with our programs (deploy/images/vllm.Containerfile): it serves and evaluates.",
    )
    gateway: GatewayPlace = Field(description="What leads requests to the servers.")
    prometheus: PrometheusServer = Field(description="What knows how requests ended.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When nodes pull the images."
    )
    pull_secrets: Listing[ObjectName] = Field(
        default=(), max_length=10, description="Secrets with which nodes pull the images."
    )
    secrets: Listing[ObjectName] = Field(
        default=(), max_length=10, description="Secrets whose keys become variables of what fetches the weights."
    )
    service_account: ObjectName | None = Field(
        default=None, description="Service account of the pods; they get no token of it."
    )
    priority_class: ObjectName | None = Field(default=None, description="Priority class of the pods.")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default={}, max_length=20, description="Labels of the nodes that servers may run on, with GPUs or without."
    )
    tolerations: Listing[Toleration] = Field(default=(), max_length=20, description="Taints that every server bears.")
    ephemeral_storage_gb: Gigabytes = Field(default=100, description="Disk for a pod's weights, in gigabytes.")
    shared_memory_gb: Gigabytes = Field(default=8, description="Size of /dev/shm of a server with GPUs, in gigabytes.")
    ready_seconds: int = Field(
        default=900, ge=1, le=86400, description="How long a server may take until it answers: image, weights, start."
    )


ServingPlace = Annotated[LocalServingPlace | ClusterServingPlace, Field(discriminator="kind")]
