"""More of what the API server refuses of a pod's specification: placement, identity, security, ports."""

import re
from typing import Any

from tests.fakes.kubernetes_errors import Cause
from tests.fakes.kubernetes_names import (
    DNS_LABEL,
    LABEL,
    LABEL_RULE,
    SUBDOMAIN,
    SUBDOMAIN_RULE,
    VALUE_RULE,
    missing,
    unsupported,
    wrong,
)

Json = dict[str, Any]
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")
FIELDS = re.compile(
    r"metadata\.(name|namespace|uid|labels|annotations)|metadata\.(labels|annotations)\['.+'\]"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs)"
)


def of_placement(spec: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for value in (spec.get("nodeSelector") or {}).values():
        if value and not re.fullmatch(LABEL, value):
            causes.append(wrong(f"{path}.nodeSelector", value, VALUE_RULE))
    for at, toleration in enumerate(spec.get("tolerations") or []):
        where = f"{path}.tolerations[{at}]"
        operator, effect = toleration.get("operator") or "Equal", toleration.get("effect")
        if operator == "Exists" and toleration.get("value"):
            message = "value must be empty when `operator` is 'Exists'"
            causes.append(wrong(f"{where}.operator", toleration["value"], message))
        if operator not in ("Equal", "Exists", "Lt", "Gt"):
            causes.append(unsupported(f"{where}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in EFFECTS:
            causes.append(unsupported(f"{where}.effect", effect, EFFECTS))
    return causes


def of_identity(spec: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    account = spec.get("serviceAccountName")
    if account and not re.fullmatch(SUBDOMAIN, account):
        causes.append(wrong(f"{path}.serviceAccountName", account, SUBDOMAIN_RULE))
    for field in ("hostname", "subdomain"):
        name = spec.get(field)
        if name and "." in name:
            causes.append(wrong(f"{path}.{field}", name, "must not contain dots"))
        elif name and not re.fullmatch(DNS_LABEL, name):
            causes.append(wrong(f"{path}.{field}", name, LABEL_RULE))
    return causes


def of_security(context: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        number = context.get(field)
        if number is not None and not 0 <= number <= 2**31 - 1:
            causes.append(wrong(f"{path}.{field}", number, "must be between 0 and 2147483647, inclusive"))
    profile = context.get("seccompProfile")
    if profile is not None and profile.get("type") not in SECCOMP:
        causes.append(unsupported(f"{path}.seccompProfile.type", profile.get("type", ""), SECCOMP))
    return causes


def of_ports(ports: list[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for at, port in enumerate(ports):
        number, name = port.get("containerPort"), port.get("name")
        if not number:
            causes.append(missing(f"{path}[{at}].containerPort"))
        elif not 1 <= number <= 65535:
            causes.append(wrong(f"{path}[{at}].containerPort", number, "must be between 1 and 65535, inclusive"))
        if name and len(name) > 15:
            causes.append(wrong(f"{path}[{at}].name", name, "must be no more than 15 characters"))
        if name and not re.fullmatch(r"[-a-z0-9]+", name):
            rule = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
            causes.append(wrong(f"{path}[{at}].name", name, rule))
        if name and not re.search(r"[a-z]", name):
            causes.append(wrong(f"{path}[{at}].name", name, "must contain at least one letter (a-z)"))
    return causes


def of_field_reference(source: Json, where: str) -> list[Cause]:
    field = source.get("fieldPath", "")
    if not FIELDS.fullmatch(field):
        why = f"error converting fieldPath: field label not supported: {field}"
        return [wrong(f"{where}.fieldPath", field, why)]
    return []
