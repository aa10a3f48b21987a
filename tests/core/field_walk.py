"""Walks a sample input and the models behind it, so that tests meet every field without naming it."""

import copy
import json
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

# What may not stand where a value of this type stands. An integer is a fine float; nothing else is converted.
WRONG = {
    str: [7, 1.5, True, ["x"], {"x": 1}],
    bool: ["true", 1, 0, 0.0, [True], {"x": 1}],
    int: ["7", True, 1.5, 1.0, [1], {"x": 1}],
    float: ["0.5", True, [0.5], {"x": 1}],
    list: ["x", 7, True, {"x": 1}, {}],
    dict: ["x", 7, True, ["x"], []],
}


def locations(value, at=()):
    """Every place in a sample below the top, with what stands there."""
    if at:
        yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from locations(inner, (*at, key))


def changed(sample, at, value):
    """A copy with another value at a place; without the place where `value` is ..."""
    result = copy.deepcopy(sample)
    holder = result
    for key in at[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[at[-1]]
    else:
        holder[at[-1]] = value
    return result


def as_bytes(sample) -> bytes:
    """JSON is YAML, and quotes every text."""
    return json.dumps(sample, ensure_ascii=False).encode()


def in_blocks(sample) -> bytes:
    """The way people write it: one field a line, in the sample's order."""
    return yaml.safe_dump(sample, sort_keys=False, allow_unicode=True).encode()


def model_classes(annotation: Any) -> set[type[BaseModel]]:
    """The models that may stand where `annotation` does."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple) or get_args(annotation):
        return {model for part in get_args(annotation) for model in model_classes(part)}
    return set()


def all_models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and every model inside it."""
    found, waiting = set(), {model}
    while waiting:
        current = waiting.pop()
        found.add(current)
        for field in current.model_fields.values():
            waiting |= model_classes(field.annotation) - found
    return found


def used_fields(parsed: BaseModel) -> set[tuple[type[BaseModel], str]]:
    """Which fields of which models a parsed sample was given."""
    found = set()
    waiting = [parsed]
    while waiting:
        current = waiting.pop()
        for name in type(current).model_fields:
            value = getattr(current, name)
            if name in current.model_fields_set:
                found.add((type(current), name))
            inner = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else [value]
            waiting += [item for item in inner if isinstance(item, BaseModel)]
    return found
