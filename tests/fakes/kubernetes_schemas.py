"""Which fields an object may have, by the OpenAPI schemas that the package `kubernetes-validate` carries.

The real server decodes an object into its Go types: a field those lack is refused (`fieldValidation=Strict`), told in a
warning header and dropped (`Warn`, its default) or dropped silently (`Ignore`); a value of a wrong type is refused
always. Custom kinds are checked by the schema they were installed with; without one, any field is taken.
"""

import functools
import json
import re
from importlib import resources
from typing import Any

from tests.fakes.kubernetes_errors import bad_request
from tests.fakes.kubernetes_kinds import Kind

Json = dict[str, Any]
VERSION = "1.36.0"
ROOM = "kubernetes-json-schema"
QUANTITY_RULE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
ANY: Json = {}
GO_TYPES = {"integer": "int32", "number": "float64", "boolean": "bool", "string": "string"}


@functools.cache
def _definitions() -> dict[str, Json]:
    path = resources.files("kubernetes_validate").joinpath(f"{ROOM}/v{VERSION}-local/_definitions.json")
    return json.loads(path.read_text(encoding="utf-8"))["$defs"]


@functools.cache
def _by_kind() -> dict[tuple[str, str, str], str]:
    return {
        (named["group"], named["version"], named["kind"]): name
        for name, definition in _definitions().items()
        for named in definition.get("x-kubernetes-group-version-kind", [])
    }


def root(kind: Kind) -> Json:
    """The schema of a kind; ANY where none is known, which is right for custom kinds only."""
    name = _by_kind().get((kind.group, kind.version, kind.kind))
    if name is None:
        if not kind.custom:
            raise LookupError(f"no schema for {kind}")
        return ANY
    return {"$ref": f"#/$defs/{name}"}


def resolved(schema: Json) -> tuple[Json, str]:
    """The schema behind a reference and the Go name of its type."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return (_definitions()[name], name.rpartition(".")[2]) if name else (schema, "")


class Decoder:
    """Walks one object along its schema; `unknown` collects the paths of fields that the schema lacks."""

    def __init__(self, kind: Kind, schema: Json | None = None) -> None:
        self._kind = kind
        self._schema = root(kind) if schema is None else schema
        self.unknown: list[str] = []

    def decode(self, found: Json) -> Json:
        """The object without unknown fields and nulls. A value of a wrong type is a refusal (400)."""
        clean = self._walk(found, self._schema, "", "")
        return clean | {name: found[name] for name in ("apiVersion", "kind") if name in found}

    def _walk(self, value: Any, schema: Json, path: str, struct: str) -> Any:
        schema, name = resolved(schema)
        outer, struct = struct, name or struct
        if schema.get("x-kubernetes-preserve-unknown-fields") or not (schema.keys() - {"description"}):
            return value
        if schema.get("x-kubernetes-embedded-resource"):
            return value
        if "oneOf" in schema or schema.get("x-kubernetes-int-or-string"):  # quantities; numbers or texts
            if isinstance(value, (str, int, float)) and not isinstance(value, bool):
                return value
            raise self._no_quantity(name)
        kinds = schema.get("type", "object")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "array" in kinds:
            return self._items(value, schema, path, struct)
        if "object" in kinds:
            return self._fields(value, schema, path, struct, (outer, name))
        if not _fits(value, kinds):
            go = schema.get("format") if "integer" in kinds else None
            raise self._mismatch(value, path, struct, go or GO_TYPES[kinds[0]])
        return value

    def _items(self, value: Any, schema: Json, path: str, struct: str) -> list[Any]:
        if not isinstance(value, list):
            item = resolved(schema.get("items", ANY))[1]
            raise self._mismatch(value, path, struct, f"[]{f'v1.{item}' if item else 'string'}")
        items = schema.get("items", ANY)
        return [self._walk(item, items, f"{path}[{at}]", struct) for at, item in enumerate(value)]

    def _fields(self, value: Any, schema: Json, path: str, struct: str, told: tuple[str, str]) -> Json:
        outer, name = told
        if not isinstance(value, dict):
            raise self._mismatch(value, path, outer, f"v1.{name}" if name else "map[string]string")
        properties, rest = schema.get("properties"), schema.get("additionalProperties")
        if properties is None and rest in (None, True):
            return value
        clean: Json = {}
        for field, held in value.items():
            inner = f"{path}.{field}" if path else field
            if held is None:
                continue
            if properties is not None and field in properties:
                clean[field] = self._walk(held, properties[field], inner, struct)
            elif isinstance(rest, dict):
                clean[field] = self._walk(held, rest, f"{path}{{{field}}}", struct)
            else:
                self.unknown.append(inner)
        return clean

    def _no_quantity(self, name: str) -> Exception:
        kind = self._kind
        what = QUANTITY_RULE if name == "Quantity" else f"json: cannot unmarshal value into Go value of type {name}"
        return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {what}')

    def _mismatch(self, value: Any, path: str, struct: str, go: str) -> Exception:
        said = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}[type(value)]
        kind = self._kind
        place = re.sub(r"\[\d+\]|\{[^{}]*\}", "", path)
        where = f"Go struct field {struct}.{place}" if struct else "Go value"
        if isinstance(value, float):
            said = f"number {value}"
        return bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"json: cannot unmarshal {said} into {where} of type {go}"
        )


def _fits(value: Any, kinds: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int):
        return "integer" in kinds or "number" in kinds
    if isinstance(value, float):
        return "number" in kinds
    return isinstance(value, str) and "string" in kinds
