"""What the API server refuses of a pod's specification: names, environment, volumes, resources, choices."""

import re
from decimal import Decimal
from typing import Any

from tests.fakes import kubernetes_pod_fields as fields
from tests.fakes.kubernetes_errors import Cause
from tests.fakes.kubernetes_names import DNS_LABEL, LABEL_RULE, unsupported

Json = dict[str, Any]
QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$")
UNITS = {"": 1, "m": Decimal("0.001"), "k": 1000, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15} | {
    f"{letter}i": 1024**power for power, letter in enumerate("KMGTP", start=1)
}
CHOICES = {
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
}


def quantity(text: object) -> Decimal:
    """Raises ValueError for what is no quantity."""
    found = QUANTITY.match(str(text))
    if not found or (found[2] not in UNITS and not re.fullmatch(r"[eE][-+]?[0-9]+", found[2])):
        raise ValueError(str(text))
    return Decimal(found[1]) * UNITS[found[2]] if found[2] in UNITS else Decimal(f"{found[1]}{found[2]}")


def of_pod_spec(spec: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    volumes = _of_volumes(spec.get("volumes") or [], f"{path}.volumes", causes)
    if not spec.get("containers"):
        causes.append((f"{path}.containers", "FieldValueRequired", "Required value"))
    taken: set[str] = set()
    for room in ("containers", "initContainers"):
        for at, container in enumerate(spec.get(room) or []):
            causes += _of_container(container, f"{path}.{room}[{at}]", volumes, taken)
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never", None):
        causes.append(unsupported(f"{path}.restartPolicy", spec["restartPolicy"], ("Always", "OnFailure", "Never")))
    causes += fields.of_placement(spec, path) + fields.of_identity(spec, path)
    causes += fields.of_security(spec.get("securityContext") or {}, f"{path}.securityContext")
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        message = "must be between 1 and 2147483647, inclusive"
        causes.append((f"{path}.activeDeadlineSeconds", "FieldValueInvalid", f"Invalid value: {deadline}: {message}"))
    return causes


def _of_volumes(volumes: list[Json], path: str, causes: list[Cause]) -> set[str]:
    names: set[str] = set()
    for at, volume in enumerate(volumes):
        name = volume.get("name", "")
        if len(volume.keys() - {"name"}) > 1:
            extra = sorted(volume.keys() - {"name"})[1]
            message = "Forbidden: may not specify more than 1 volume type"
            causes.append((f"{path}[{at}].{extra}", "FieldValueForbidden", message))
        if "secret" in volume and not volume["secret"].get("secretName"):
            causes.append((f"{path}[{at}].secret.secretName", "FieldValueRequired", "Required value"))
        if not name:
            causes.append((f"{path}[{at}].name", "FieldValueRequired", "Required value"))
        elif not re.fullmatch(DNS_LABEL, name) or len(name) > 63:
            causes.append((f"{path}[{at}].name", "FieldValueInvalid", f'Invalid value: "{name}": {LABEL_RULE}'))
        elif name in names:
            causes.append((f"{path}[{at}].name", "FieldValueDuplicate", f'Duplicate value: "{name}"'))
        names.add(name)
    return names


def _of_container(container: Json, path: str, volumes: set[str], taken: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    name = container.get("name", "")
    if not name:
        causes.append((f"{path}.name", "FieldValueRequired", "Required value"))
    elif not re.fullmatch(DNS_LABEL, name) or len(name) > 63:
        causes.append((f"{path}.name", "FieldValueInvalid", f'Invalid value: "{name}": {LABEL_RULE}'))
    elif name in taken:
        causes.append((f"{path}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'))
    taken.add(name)
    if not container.get("image"):
        causes.append((f"{path}.image", "FieldValueRequired", "Required value"))
    for field, allowed in CHOICES.items():
        if container.get(field) not in (*allowed, None):
            causes.append(unsupported(f"{path}.{field}", container[field], allowed))
    causes += _of_environment(container.get("env") or [], f"{path}.env")
    causes += fields.of_ports(container.get("ports") or [], f"{path}.ports")
    causes += fields.of_security(container.get("securityContext") or {}, f"{path}.securityContext")
    causes += _of_mounts(container.get("volumeMounts") or [], f"{path}.volumeMounts", volumes)
    return causes + _of_resources(container.get("resources") or {}, f"{path}.resources")


def _of_environment(variables: list[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for at, variable in enumerate(variables):
        name, source = variable.get("name", ""), variable.get("valueFrom")
        if not name:
            causes.append((f"{path}[{at}].name", "FieldValueRequired", "Required value"))
        elif not re.fullmatch(r"[ -<>-~]+", name):
            rule = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            causes.append((f"{path}[{at}].name", "FieldValueInvalid", f'Invalid value: "{name}": {rule}'))
        if source is None:
            continue
        where = f"{path}[{at}].valueFrom"
        if variable.get("value"):
            message = 'Invalid value: "": may not be specified when `value` is not empty'
            causes.append((where, "FieldValueInvalid", message))
        elif not source:
            message = (
                'Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, '
                "`secretKeyRef` or `fileKeyRef`"
            )
            causes.append((where, "FieldValueInvalid", message))
        for kind in ("secretKeyRef", "configMapKeyRef"):
            if kind in source and not source[kind].get("key"):
                causes.append((f"{where}.{kind}.key", "FieldValueRequired", "Required value"))
        if "fieldRef" in source:
            causes += fields.of_field_reference(source["fieldRef"], f"{where}.fieldRef")
    return causes


def _of_mounts(mounts: list[Json], path: str, volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    paths: set[str] = set()
    for at, mount in enumerate(mounts):
        if mount.get("name") not in volumes:
            causes.append((f"{path}[{at}].name", "FieldValueNotFound", f'Not found: "{mount.get("name", "")}"'))
        place = mount.get("mountPath", "")
        if not place:
            causes.append((f"{path}[{at}].mountPath", "FieldValueRequired", "Required value"))
        elif place in paths:
            causes.append((f"{path}[{at}].mountPath", "FieldValueInvalid", f'Invalid value: "{place}": must be unique'))
        paths.add(place)
    return causes


def _of_resources(resources: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for room, values in (("limits", limits), ("requests", requests)):
        for name, value in values.items():
            extended = "/" in name and not name.startswith("kubernetes.io/")
            if quantity(value) < 0:
                message = f'Invalid value: "{value}": must be greater than or equal to 0'
                causes.append((f"{path}.{room}[{name}]", "FieldValueInvalid", message))
            if extended and quantity(value) % 1:
                causes.append(
                    (f"{path}.{room}[{name}]", "FieldValueInvalid", f'Invalid value: "{value}": must be an integer')
                )
            if (
                "/" not in name
                and name not in ("cpu", "memory", "ephemeral-storage")
                and not name.startswith("hugepages-")
            ):
                message = f'Invalid value: "{name}": must be a standard resource type or fully qualified'
                causes.append((f"{path}.{room}[{name}]", "FieldValueInvalid", message))
                message = f'Invalid value: "{name}": must be a standard resource for containers'
                causes.append((f"{path}.{room}[{name}]", "FieldValueInvalid", message))
    for name, value in requests.items():
        extended = "/" in name
        if extended and name not in limits:
            causes.append(
                (
                    f"{path}.limits",
                    "FieldValueRequired",
                    "Required value: Limit must be set for non overcommitable resources",
                )
            )
        elif extended and quantity(value) != quantity(limits[name]):
            message = f'Invalid value: "{value}": must be equal to {name} limit of {limits[name]}'
            causes.append((f"{path}.requests", "FieldValueInvalid", message))
        elif name in limits and quantity(value) > quantity(limits[name]):
            message = f'Invalid value: "{value}": must be less than or equal to {name} limit of {limits[name]}'
            causes.append((f"{path}.requests", "FieldValueInvalid", message))
    return causes


def unparsable_quantities(spec: Json) -> list[str]:
    """Quantities that no decoder takes: a 400, before any validation."""
    bad = []
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        for values in (container.get("resources") or {}).values():
            for value in values.values() if isinstance(values, dict) else []:
                try:
                    quantity(value)
                except ValueError:
                    bad.append(str(value))
    return bad
