"""What the API server refuses with 422 although the schema allows it: names, labels, required fields of pods and jobs,
choices, quantities, selectors that do not select, and fields that may not change. Only what our objects can get wrong
is here; messages are the real server's."""

import re
from typing import Any

from tests.fakes.kubernetes_errors import Cause
from tests.fakes.kubernetes_kinds import DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, SERVICES, Kind
from tests.fakes.kubernetes_pod_validation import of_pod_spec
from tests.fakes.kubernetes_selectors import matches

Json = dict[str, Any]
LABEL = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SERVICE_NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
NAMED_BY_LABEL = ("namespaces",)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SERVICE_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
ANNOTATIONS_BYTES = 256 * 1024


def wrong(field: str, value: Any, message: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return field, "FieldValueInvalid", f"Invalid value: {shown}: {message}"


def missing(field: str, message: str = "") -> Cause:
    return field, "FieldValueRequired", f"Required value: {message}" if message else "Required value"


def of_metadata(kind: Kind, metadata: Json) -> list[Cause]:
    causes: list[Cause] = []
    name = metadata.get("name", "")
    if not name:
        causes.append(missing("metadata.name", "name or generateName is required"))
    elif kind == SERVICES:
        causes += _named("metadata.name", name, SERVICE_NAME, 63, SERVICE_RULE)
    elif kind.plural in NAMED_BY_LABEL:
        causes += _named("metadata.name", name, DNS_LABEL, 63, LABEL_RULE)
    else:
        causes += _named("metadata.name", name, SUBDOMAIN, 253, SUBDOMAIN_RULE)
    causes += of_labels("metadata.labels", metadata.get("labels") or {})
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        causes += _of_key("metadata.annotations", key.lower())
    size = sum(len(key.encode()) + len(str(value).encode()) for key, value in annotations.items())
    if size > ANNOTATIONS_BYTES:
        causes.append(
            ("metadata.annotations", "FieldValueTooLong", f"Too long: may not be more than {ANNOTATIONS_BYTES} bytes")
        )
    return causes


def _named(field: str, name: str, pattern: str, longest: int, rule: str) -> list[Cause]:
    causes = []
    if len(name) > longest:
        causes.append(wrong(field, name, f"must be no more than {longest} characters"))
    if not re.fullmatch(pattern, name):
        causes.append(wrong(field, name, rule))
    return causes


def of_labels(field: str, labels: Json) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += _of_key(field, key)
        if len(value) > 63:
            causes.append(wrong(field, value, "must be no more than 63 bytes"))
        if value and not re.fullmatch(LABEL, value):
            causes.append(wrong(field, value, VALUE_RULE))
    return causes


def _of_key(field: str, key: str) -> list[Cause]:
    prefix, slash, name = key.rpartition("/")
    causes = []
    if slash and not prefix:
        causes.append(wrong(field, key, "prefix part must be non-empty"))
    elif slash and not re.fullmatch(SUBDOMAIN, prefix):
        causes.append(wrong(field, key, f"prefix part {SUBDOMAIN_RULE}"))
    if not name:
        causes.append(wrong(field, key, "name part must be non-empty"))
    elif len(name) > 63:
        causes.append(wrong(field, key, "name part must be no more than 63 bytes"))
    if not re.fullmatch(LABEL, name):
        causes.append(wrong(field, key, KEY_RULE))
    return causes


def of_new(kind: Kind, found: Json) -> list[Cause]:
    causes = of_metadata(kind, found["metadata"])
    if kind == JOBS:
        causes += of_job(found)
    elif kind == PODS:
        causes += of_pod_spec(found["spec"], "spec")
    elif kind in (DEPLOYMENTS, REPLICA_SETS):
        causes += of_scaled(found)
    elif kind.plural in ("secrets", "configmaps"):
        causes += _of_data(found)
    return causes


def of_job(job: Json) -> list[Cause]:
    spec, causes = job["spec"], []
    for field in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if spec.get(field, 0) < 0:
            causes.append(wrong(f"spec.{field}", spec[field], "must be greater than or equal to 0"))
    if len(job["metadata"].get("name", "")) > 63:
        causes.append(wrong("spec.template.labels", job["metadata"]["name"], "must be no more than 63 bytes"))
    mode = spec["completionMode"]
    if mode not in ("NonIndexed", "Indexed"):
        causes.append(_unsupported("spec.completionMode", mode, ("Indexed", "NonIndexed")))
    if mode == "Indexed" and "completions" not in spec:
        causes.append(missing("spec.completions", "when completion mode is Indexed"))
    template = spec["template"]
    causes += of_labels("spec.template.labels", (template.get("metadata") or {}).get("labels") or {})
    if not matches(spec.get("selector"), (template.get("metadata") or {}).get("labels") or {}):
        labels = _shown(template.get("metadata", {}).get("labels") or {})
        causes.append(wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    causes += of_pod_spec(template["spec"], "spec.template.spec")
    policy = template["spec"].get("restartPolicy")
    if policy == "Always":
        message = 'Required value: valid values: "OnFailure", "Never"'
        causes.append(("spec.template.spec.restartPolicy", "FieldValueRequired", message))
    elif policy not in ("OnFailure", "Never"):
        causes.append(_unsupported("spec.template.spec.restartPolicy", policy, ("OnFailure", "Never")))
    return causes


def of_scaled(found: Json) -> list[Cause]:
    spec, causes = found["spec"], []
    selector = spec.get("selector")
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not selector:
        causes.append(missing("spec.selector"))
    elif not matches(selector, labels):
        causes.append(
            wrong("spec.template.metadata.labels", _shown(labels), "`selector` does not match template `labels`")
        )
    causes += of_pod_spec(spec["template"]["spec"], "spec.template.spec")
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy != "Always":
        causes.append(_unsupported("spec.template.spec.restartPolicy", policy, ("Always",)))
    return causes


def _of_data(found: Json) -> list[Cause]:
    rule = (
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
        "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
    )
    keys = [*(found.get("data") or {}), *(found.get("binaryData") or {})]
    return [wrong(f"data[{key}]", key, rule) for key in keys if not re.fullmatch(r"[-._a-zA-Z0-9]+", key)]


def of_change(kind: Kind, found: Json, before: Json) -> list[Cause]:
    """Fields that may not change."""
    causes = []
    if kind == JOBS:
        old, new = before["spec"], found["spec"]
        suspended = bool(old.get("suspend")) and "startTime" not in before.get("status", {})
        fixed = ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy"]
        fixed += [] if suspended else ["template"]
        fixed += [] if new.get("completionMode") == "Indexed" else ["completions"]
        causes += [_immutable(f"spec.{name}", new.get(name)) for name in fixed if old.get(name) != new.get(name)]
    elif kind == DEPLOYMENTS and before["spec"]["selector"] != found["spec"].get("selector"):
        causes.append(_immutable("spec.selector", found["spec"].get("selector")))
    elif (
        kind.plural in ("configmaps", "secrets") and before.get("immutable") and found.get("data") != before.get("data")
    ):
        causes.append(("data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"))
    return causes


def _immutable(field: str, value: Any) -> Cause:
    return wrong(field, _shown(value), "field is immutable")


def _unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{name}"' for name in allowed)
    return field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {listed}'


def _shown(value: Any) -> str:
    return str(value)
