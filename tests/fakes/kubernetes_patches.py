"""The three kinds of patch: merge (RFC 7386), JSON patch (RFC 6902), and Kubernetes' strategic merge, in which some
lists are merged by a key of their items instead of being replaced."""

import copy
from typing import Any

from tests.fakes.kubernetes_errors import ApiError, bad_request
from tests.fakes.kubernetes_schemas import resolved

Json = dict[str, Any]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def strategically_merged(target: Any, patch: Any, schema: Json) -> Any:
    """`schema` is the kind's: it names the lists that merge and by which key."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    schema = resolved(schema)[0]
    fields = schema.get("properties") or {}
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        inner = fields.get(name) or schema.get("additionalProperties") or {}
        if name.startswith("$"):
            continue
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list):
            result[name] = _list_merged(inner, result.get(name) or [], value)
        else:
            result[name] = strategically_merged(result.get(name), value, inner)
    for name, gone in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            result[field] = [item for item in result.get(field) or [] if item not in gone]
    return result


def _list_merged(schema: Json, old: list[Any], new: list[Any]) -> list[Any]:
    if "merge" not in schema.get("x-kubernetes-patch-strategy", ""):
        return copy.deepcopy(new)
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None:  # texts, such as finalizers
        return old + [item for item in new if item not in old]
    if any(item.get("$patch") == "replace" for item in new):
        return [item for item in new if "$patch" not in item]
    result = list(old)
    for item in new:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        at = next((index for index, held in enumerate(result) if held.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [held for held in result if held.get(key) != item[key]]
        elif at is None:
            result.append(copy.deepcopy(item))
        else:
            result[at] = strategically_merged(result[at], item, schema.get("items") or {})
    return result


def json_patched(target: Any, operations: Any) -> Any:
    if not isinstance(operations, list):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        )
    result = copy.deepcopy(target)
    for operation in operations:
        result = _applied(result, operation)
    return result


def _applied(document: Any, operation: Json) -> Any:
    how, path = operation.get("op"), operation.get("path", "")
    steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    try:
        if how == "test":
            if _at(document, steps) != operation.get("value"):
                raise _refused()
        elif how in ("add", "replace"):
            _set(document, steps, copy.deepcopy(operation["value"]), how == "add")
        elif how == "remove":
            _take(document, steps)
        elif how in ("move", "copy"):
            source = [step.replace("~1", "/").replace("~0", "~") for step in operation["from"].split("/")[1:]]
            value = _take(document, source) if how == "move" else copy.deepcopy(_at(document, source))
            _set(document, steps, value, True)
        else:
            raise bad_request(f"Unexpected kind: {how}")
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise _refused() from error
    return document


def _refused() -> ApiError:
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def _at(document: Any, steps: list[str]) -> Any:
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _set(document: Any, steps: list[str], value: Any, add: bool) -> None:
    parent = _at(document, steps[:-1])
    last = steps[-1]
    if isinstance(parent, list):
        if not add:
            parent[int(last)] = value
        else:
            parent.insert(len(parent) if last == "-" else int(last), value)
        return
    if not add:
        parent[last]  # a KeyError is the refusal
    parent[last] = value


def _take(document: Any, steps: list[str]) -> Any:
    parent = _at(document, steps[:-1])
    return parent.pop(int(steps[-1]) if isinstance(parent, list) else steps[-1])
