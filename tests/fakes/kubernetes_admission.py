"""What happens to a new object between decoding and storing: defaults, and the admission plug-ins that refuse pods
whose service account or priority class does not exist."""

import base64
import binascii
import uuid
from typing import Any

from tests.fakes import kubernetes_defaults as defaults
from tests.fakes.kubernetes_errors import bad_request, forbidden
from tests.fakes.kubernetes_kinds import (
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    PRIORITY_CLASSES,
    REPLICA_SETS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Kind,
)
from tests.fakes.kubernetes_names import suffix
from tests.fakes.kubernetes_pod_validation import unparsable_quantities
from tests.fakes.kubernetes_schemas import QUANTITY_RULE
from tests.fakes.kubernetes_store import Store

Json = dict[str, Any]
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
BUILT_IN_PRIORITIES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}


def prepare(kind: Kind, found: Json, store: Store) -> None:
    """Changes `found`; raises what admission refuses."""
    if kind in (PODS, JOBS, DEPLOYMENTS, REPLICA_SETS):
        _check_quantities(kind, found)
    if kind == PODS:
        _admit_pod(found, store)
    elif kind == JOBS:
        found["metadata"]["uid"] = ""
        _prepare_job(found)
    elif kind == DEPLOYMENTS:
        found.setdefault("spec", {}).setdefault("template", {})
        defaults.of_deployment(found)
    elif kind == REPLICA_SETS:
        found.setdefault("spec", {}).setdefault("template", {})
        defaults.of_replica_set(found)
    elif kind == SERVICES:
        octets = uuid.uuid4().bytes
        defaults.of_service(found, f"10.96.{octets[0]}.{octets[1]}")
    elif kind == NAMESPACES:
        found["spec"] = {"finalizers": ["kubernetes"]}
        found["status"] = {"phase": "Active"}
        name = found["metadata"].get("name", "")
        found["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    elif kind == SECRETS:
        _prepare_secret(found)
    elif kind.has_status and not kind.custom:
        found.setdefault("status", {})


def fill(kind: Kind, found: Json) -> None:
    """Defaults of a changed object: a patch may have brought a new container."""
    if kind in (JOBS, REPLICA_SETS):
        defaults.of_pod_spec(found["spec"]["template"].setdefault("spec", {}))
    elif kind == DEPLOYMENTS:
        defaults.of_deployment(found)
    elif kind == PODS:
        defaults.of_pod_spec(found["spec"])


def _prepare_job(job: Json) -> None:
    job.setdefault("spec", {}).setdefault("template", {})
    uid = str(uuid.uuid4())
    job["metadata"]["uid"] = uid
    defaults.of_job(job, uid)


def _prepare_secret(secret: Json) -> None:
    secret.setdefault("type", "Opaque")
    for text in (secret.get("data") or {}).values():
        try:
            base64.b64decode(text, validate=True)
        except binascii.Error as error:
            why = "illegal base64 data"
            raise bad_request(f'Secret in version "v1" cannot be handled as a Secret: {why}') from error
    plain = secret.pop("stringData", None)
    if plain:
        secret["data"] = (secret.get("data") or {}) | {
            name: base64.b64encode(text.encode()).decode() for name, text in plain.items()
        }


def _check_quantities(kind: Kind, found: Json) -> None:
    spec = found.get("spec") or {}
    spec = spec if kind == PODS else (spec.get("template") or {}).get("spec") or {}
    if unparsable_quantities(spec):
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {QUANTITY_RULE}'
        )


def _admit_pod(pod: Json, store: Store) -> None:
    pod.setdefault("spec", {})
    defaults.of_pod(pod)
    spec, metadata = pod["spec"], pod["metadata"]
    name = metadata.get("generateName") or metadata.get("name", "")  # admission comes before the name is generated
    if wanted := spec.get("priorityClassName"):
        found = store.get(PRIORITY_CLASSES, ("", wanted))
        if found is None and wanted not in BUILT_IN_PRIORITIES:
            raise forbidden(PODS, name, f"no PriorityClass with name {wanted} was found")
        spec["priority"] = found["value"] if found else BUILT_IN_PRIORITIES[wanted]
        spec["preemptionPolicy"] = (found or {}).get("preemptionPolicy", "PreemptLowerPriority")
    if spec.get("automountServiceAccountToken") is not False:
        _mount_token(spec)
    account = spec["serviceAccountName"]
    if account != "default" and store.get(SERVICE_ACCOUNTS, (metadata["namespace"], account)) is None:
        where = f"{metadata['namespace']}/{account}"
        raise forbidden(PODS, name, f'error looking up service account {where}: serviceaccount "{account}" not found')


def _mount_token(spec: Json) -> None:
    """The volume through which a pod gets a token, unless it says that it wants none."""
    name = f"kube-api-access-{suffix()}"
    field = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [field]}},
    ]
    spec.setdefault("volumes", []).append({"name": name, "projected": {"sources": sources, "defaultMode": 0o644}})
    mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        mounts = container.setdefault("volumeMounts", [])
        if all(held["mountPath"] != TOKEN_PATH for held in mounts):
            mounts.append(dict(mount))
