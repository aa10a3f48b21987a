"""The fields of other projects' kinds that our manifests use, each with its type; anything else is refused.

The published schemas are not ours to keep here. These models hold what we use of them, so that a slip of the pen is
found without a network; they were held against the published schemas when they were written, and are again wherever
LLMOPS_CRD_SCHEMAS names a folder with them (test_manifests.py).
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class ParentRef(Strict):
    name: str
    section_name: str = ""
    group: Literal["gateway.networking.k8s.io"] = "gateway.networking.k8s.io"
    kind: Literal["Gateway"] = "Gateway"


class PathModifier(Strict):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: str | None = Field(default=None, pattern=r"^/", max_length=1024)
    replace_prefix_match: str | None = Field(default=None, pattern=r"^/", max_length=1024)


class Redirect(Strict):
    scheme: Literal["https"] | None = None
    path: PathModifier | None = None
    status_code: Literal[301, 302]


class Rewrite(Strict):
    path: PathModifier


class HeaderValue(Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_|~]+$", max_length=256)
    value: str = Field(min_length=1, max_length=4096)


class HeaderModifier(Strict):
    set: list[HeaderValue] = Field(min_length=1, max_length=16)


class RouteFilter(Strict):
    """What CEL rules of the definition say too: the field is there that the type names."""

    type: Literal["RequestRedirect", "URLRewrite", "ResponseHeaderModifier"]
    request_redirect: Redirect | None = None
    url_rewrite: Rewrite | None = None
    response_header_modifier: HeaderModifier | None = None


class PathMatch(Strict):
    type: Literal["Exact", "PathPrefix"]
    value: str = Field(pattern=r"^/[A-Za-z0-9._/-]*$", max_length=1024)


class RouteMatch(Strict):
    path: PathMatch


class BackendRef(Strict):
    group: Literal[""]
    kind: Literal["Service"]
    name: str = Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    port: int = Field(ge=1, le=65535)
    weight: int = Field(ge=0, le=1_000_000)
    filters: list[RouteFilter] = Field(max_length=16)


class Timeouts(Strict):
    request: str = Field(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")


class RouteRule(Strict):
    matches: list[RouteMatch] = Field(default=[], max_length=64)
    filters: list[RouteFilter] = Field(max_length=16)
    backend_refs: list[BackendRef] = Field(default=[], max_length=16)
    timeouts: Timeouts | None = None


class HttpRoute(Strict):
    parent_refs: list[ParentRef] = Field(min_length=1)
    rules: list[RouteRule] = Field(min_length=1, max_length=16)


class CertificateRef(Strict):
    name: str


class Tls(Strict):
    mode: Literal["Terminate"]
    certificate_refs: list[CertificateRef] = Field(min_length=1)


class RouteNamespaces(Strict):
    from_: Literal["Same"] = Field(alias="from")


class AllowedRoutes(Strict):
    namespaces: RouteNamespaces


class Listener(Strict):
    name: str
    protocol: Literal["HTTP", "HTTPS"]
    port: int
    hostname: str = ""
    tls: Tls | None = None
    allowed_routes: AllowedRoutes


class Gateway(Strict):
    gateway_class_name: str
    listeners: list[Listener] = Field(min_length=1)


class LabelSelector(Strict):
    match_labels: dict[str, str] = Field(min_length=1)


class Endpoint(Strict):
    port: str
    path: str
    interval: str = Field(pattern=r"^\d+s$")
    scrape_timeout: str = Field(pattern=r"^\d+s$")


class NamespaceNames(Strict):
    match_names: list[str] = Field(min_length=1)


class PodMonitor(Strict):
    namespace_selector: NamespaceNames | None = None
    selector: LabelSelector
    pod_target_labels: list[str] = []
    pod_metrics_endpoints: list[Endpoint] = Field(min_length=1)


class Relabeling(Strict):
    source_labels: list[str]
    regex: str
    replacement: str
    target_label: str


class ServiceEndpoint(Endpoint):
    relabelings: list[Relabeling] = []


class ServiceMonitor(Strict):
    selector: LabelSelector
    endpoints: list[ServiceEndpoint] = Field(min_length=1)


class StoreRef(Strict):
    kind: Literal["ClusterSecretStore"]
    name: str


class SecretTemplate(Strict):
    type: Literal["kubernetes.io/dockerconfigjson"]


class SecretTarget(Strict):
    name: str
    creation_policy: Literal["Owner"]
    template: SecretTemplate | None = None


class RemoteRef(Strict):
    key: str
    property: str


class SecretDatum(Strict):
    secret_key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$")
    remote_ref: RemoteRef


class ExternalSecret(Strict):
    refresh_interval: str = Field(pattern=r"^\d+h\d+m\d+s$")
    secret_store_ref: StoreRef
    target: SecretTarget
    data: list[SecretDatum] = Field(min_length=1)


class FlavorToleration(Strict):
    key: str
    operator: Literal["Exists"]
    effect: Literal["NoSchedule"]


class ResourceFlavor(Strict):
    node_labels: dict[str, str] = {}
    tolerations: list[FlavorToleration] = []


class FlavorQuota(Strict):
    name: str
    nominal_quota: str


class QueueFlavor(Strict):
    name: str
    resources: list[FlavorQuota]


class ResourceGroup(Strict):
    covered_resources: list[str]
    flavors: list[QueueFlavor]


class Preemption(Strict):
    within_cluster_queue: Literal["LowerPriority", "Never"]


class ClusterQueue(Strict):
    namespace_selector: LabelSelector
    queueing_strategy: Literal["BestEffortFIFO", "StrictFIFO"]
    preemption: Preemption
    resource_groups: list[ResourceGroup]


class LocalQueue(Strict):
    cluster_queue: str


KINDS: dict[tuple[str, str], type[Strict]] = {
    ("gateway.networking.k8s.io/v1", "Gateway"): Gateway,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): HttpRoute,
    ("monitoring.coreos.com/v1", "PodMonitor"): PodMonitor,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): ServiceMonitor,
    ("external-secrets.io/v1", "ExternalSecret"): ExternalSecret,
    ("kueue.x-k8s.io/v1beta2", "ResourceFlavor"): ResourceFlavor,
    ("kueue.x-k8s.io/v1beta2", "ClusterQueue"): ClusterQueue,
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"): LocalQueue,
}


def check(manifest: dict[str, Any]) -> None:
    """Raises KeyError for a kind that nobody described, ValidationError for fields that are not of it."""
    model = KINDS[manifest["apiVersion"], manifest["kind"]]
    assert manifest.keys() <= {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["metadata"].keys() <= {"name", "namespace", "labels", "annotations"}
    model.model_validate(manifest["spec"])
