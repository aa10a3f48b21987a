"""What a container sees: its environment from values, secrets, config maps and fields, and its command, with `$(NAME)`
filled in. Nothing of the test's own environment is in it."""

import base64
import re
from typing import Any

from tests.fakes.kubernetes_kinds import CONFIG_MAPS, SECRETS, Kind
from tests.fakes.kubernetes_pod_validation import quantity
from tests.fakes.kubernetes_store import Json, Store


class NotCreated(Exception):
    """The container cannot be created: CreateContainerConfigError."""


def environment_of(pod: Json, container: Json, store: Store) -> dict[str, str]:
    """Raises NotCreated when a secret or config map that is not optional is missing."""
    found: dict[str, str] = {"HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"]}
    for source in container.get("envFrom") or []:
        for field, kind in (("secretRef", SECRETS), ("configMapRef", CONFIG_MAPS)):
            if field in source:
                held = _content(kind, pod, source[field], store)
                found |= {f"{source.get('prefix', '')}{name}": text for name, text in held.items()}
    for variable in container.get("env") or []:
        if "valueFrom" in variable:
            value = _from(variable["valueFrom"], pod, container, store)
            if value is not None:
                found[variable["name"]] = value
        else:
            found[variable["name"]] = expanded(variable.get("value", ""), found)
    return found


def _from(source: Json, pod: Json, container: Json, store: Store) -> str | None:
    for field, kind in (("secretKeyRef", SECRETS), ("configMapKeyRef", CONFIG_MAPS)):
        if field in source:
            held = _content(kind, pod, source[field], store)
            key = source[field]["key"]
            if key not in held and not source[field].get("optional"):
                where = f"{pod['metadata']['namespace']}/{source[field]['name']}"
                raise NotCreated(f"couldn't find key {key} in {kind.kind} {where}")
            return held.get(key)
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    limits = container.get("resources", {}).get("limits") or {}
    return str(int(quantity(limits.get(source["resourceFieldRef"]["resource"].partition(".")[2], 0))))


def _content(kind: Kind, pod: Json, reference: Json, store: Store) -> dict[str, str]:
    found = store.get(kind, (pod["metadata"]["namespace"], reference["name"]))
    if found is None:
        if reference.get("optional"):
            return {}
        raise NotCreated(f'{kind.plural[:-1]} "{reference["name"]}" not found')
    return content_of(kind, found)


def content_of(kind: Kind, found: Json) -> dict[str, str]:
    data = found.get("data") or {}
    return {key: base64.b64decode(text).decode() for key, text in data.items()} if kind == SECRETS else data


def field_of(pod: Json, path: str) -> str:
    """A field of the downward API, such as `metadata.labels['x']` or `status.podIP`."""
    found = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if found:
        return (pod["metadata"].get(found[1]) or {}).get(found[2], "")
    value: Any = pod
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    return str(value)


def expanded(text: str, environment: dict[str, str]) -> str:
    """`$(NAME)` becomes the value if there is one; `$$(NAME)` stays as `$(NAME)`."""
    return re.sub(
        r"\$(\$|\((\w+)\))",
        lambda found: "$" if found[1] == "$" else environment.get(found[2], found[0]),
        text,
    )


def command_of(container: Json, environment: dict[str, str]) -> list[str]:
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    return [expanded(word, environment) for word in words]
