"""The kinds that the stand-in of the Kubernetes API serves, as one table: where they lie in the URL, whether they have
a status of their own, and which fields a field selector may name (the real server refuses all others with 400)."""

from dataclasses import dataclass, field

ALWAYS = frozenset({"metadata.name", "metadata.namespace"})
POD_FIELDS = frozenset(
    {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"}
    | {"status.phase", "status.podIP", "status.nominatedNodeName"}
)
EVENT_FIELDS = frozenset(
    {f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")}
    | {"involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"}
)
COUNTED = frozenset(
    {"pods", "jobs", "cronjobs", "deployments", "replicasets", "statefulsets", "networkpolicies", "priorityclasses"}
    | {"poddisruptionbudgets", "customresourcedefinitions"}
)


@dataclass(frozen=True)
class Kind:
    """`plural` of `group`/`version` in the URL, `kind` in the object."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    has_status: bool = False
    custom: bool = False
    fields: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As messages name it: `jobs.batch`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def kind_qualified(self) -> str:
        """As refusals of an object's content name it: `Job.batch`, `Pod`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def has_generation(self) -> bool:
        """Counts the server the versions of its specification?"""
        return self.custom or self.plural in COUNTED

    @property
    def selectable(self) -> frozenset[str]:
        return ALWAYS | self.fields


NAMESPACES = Kind("", "v1", "namespaces", "Namespace", False, True, fields=frozenset({"status.phase"}))
NODES = Kind("", "v1", "nodes", "Node", False, True, fields=frozenset({"spec.unschedulable"}))
PODS = Kind("", "v1", "pods", "Pod", True, True, fields=POD_FIELDS)
EVENTS = Kind("", "v1", "events", "Event", fields=EVENT_FIELDS)
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
SECRETS = Kind("", "v1", "secrets", "Secret", fields=frozenset({"type"}))
SERVICES = Kind("", "v1", "services", "Service", True, True)
SERVICE_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount")
VOLUME_CLAIMS = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True, True)
JOBS = Kind("batch", "v1", "jobs", "Job", True, True, fields=frozenset({"status.successful"}))
CRON_JOBS = Kind("batch", "v1", "cronjobs", "CronJob", True, True)
DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment", True, True)
REPLICA_SETS = Kind("apps", "v1", "replicasets", "ReplicaSet", True, True, fields=frozenset({"status.replicas"}))
STATEFUL_SETS = Kind("apps", "v1", "statefulsets", "StatefulSet", True, True)
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
NETWORK_POLICIES = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
DISRUPTION_BUDGETS = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, True)
PRIORITY_CLASSES = Kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
ROLES = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False, True)

BUILT_IN = (
    *(NAMESPACES, NODES, PODS, EVENTS, CONFIG_MAPS, SECRETS, SERVICES, SERVICE_ACCOUNTS, VOLUME_CLAIMS),
    *(JOBS, CRON_JOBS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, LEASES, NETWORK_POLICIES, DISRUPTION_BUDGETS),
    *(PRIORITY_CLASSES, ROLES, ROLE_BINDINGS, DEFINITIONS),
)

HTTP_ROUTES = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", True, True, True)
GATEWAYS = Kind("gateway.networking.k8s.io", "v1", "gateways", "Gateway", True, True, True)
GATEWAY_CLASSES = Kind("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", False, True, True)
POD_MONITORS = Kind("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor", True, False, True)
TRAIN_JOBS = Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob", True, True, True)
TRAINING_RUNTIMES = Kind("trainer.kubeflow.org", "v1alpha1", "trainingruntimes", "TrainingRuntime", True, False, True)
WORKLOADS = Kind("kueue.x-k8s.io", "v1beta1", "workloads", "Workload", True, True, True)
LOCAL_QUEUES = Kind("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue", True, True, True)
CLUSTER_QUEUES = Kind("kueue.x-k8s.io", "v1beta1", "clusterqueues", "ClusterQueue", False, True, True)

CUSTOM = (
    HTTP_ROUTES,
    GATEWAYS,
    TRAIN_JOBS,
    TRAINING_RUNTIMES,
    WORKLOADS,
    LOCAL_QUEUES,
    CLUSTER_QUEUES,
    GATEWAY_CLASSES,
    POD_MONITORS,
)
