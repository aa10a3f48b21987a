"""Names, labels and annotations: the rules that hold for the metadata of every object, and the words of refusals."""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from tests.fakes.kubernetes_errors import Cause
from tests.fakes.kubernetes_kinds import Kind

Json = dict[str, Any]
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
LABEL = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAMED_BY_LABEL = ("namespaces", "services")
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
KEY_WITH_PREFIX = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
EMPTY = "must not be empty"
ANNOTATIONS_BYTES = 256 * 1024


def suffix() -> str:
    """Five letters for a generated name."""
    return "".join(random.choices(LETTERS, k=5))


def wrong(field: str, value: Any, message: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)
    return field, "FieldValueInvalid", f"Invalid value: {shown}: {message}"


def missing(field: str, message: str = "") -> Cause:
    return field, "FieldValueRequired", f"Required value: {message}" if message else "Required value"


def unsupported(field: str, value: Any, allowed: Sequence[str]) -> Cause:
    listed = ", ".join(f'"{name}"' for name in allowed)
    return field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {listed}'


def of_metadata(kind: Kind, metadata: Json) -> list[Cause]:
    causes: list[Cause] = []
    name = metadata.get("name", "")
    if not name:
        causes.append(missing("metadata.name", "name or generateName is required"))
    elif kind.plural in NAMED_BY_LABEL:
        causes += _named("metadata.name", name, DNS_LABEL, 63, LABEL_RULE)
    else:
        causes += _named("metadata.name", name, SUBDOMAIN, 253, SUBDOMAIN_RULE)
    causes += of_labels("metadata.labels", metadata.get("labels") or {})
    causes += _of_references(metadata)
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
    if key.count("/") > 1:
        return [wrong(field, key, KEY_RULE.replace("name part", "a valid label key", 1) + KEY_WITH_PREFIX)]
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


def _of_references(metadata: Json) -> list[Cause]:
    causes: list[Cause] = []
    for at, name in enumerate(metadata.get("finalizers") or []):
        if "/" not in name and name not in ("foregroundDeletion", "orphan", "kubernetes"):
            message = "name is neither a standard finalizer name nor is it fully qualified"
            causes.append(wrong(f"metadata.finalizers[{at}]", name, message))
    for owner in metadata.get("ownerReferences") or []:
        for field, message in (
            ("apiVersion", "version must not be empty"),
            ("kind", EMPTY),
            ("name", EMPTY),
            ("uid", EMPTY),
        ):
            if not owner.get(field):
                causes.append(wrong(f"metadata.ownerReferences.{field}", "", message))
    return causes
