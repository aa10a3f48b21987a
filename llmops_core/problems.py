"""Pydantic's errors, turned into problems that the author of the file can act on.

Each says the field by its path, what stood there (short, secrets hidden), what is expected in plain words, and the
line. Where a field name is unknown, the nearest known one is offered.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llmops_core.errors import Problem
from llmops_core.fields import Violation
from llmops_core.showing import field_name, shown
from llmops_core.strict_yaml import LIMIT_PROBLEMS, Document, Location

# What is expected, by pydantic's type of error; {names} come from the error's context.
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text (put it in quotes if it looks like something else)",
    "bool_type": "true or false",
    "model_type": "a mapping of fields to values",
    "model_attributes_type": "a mapping of fields to values",
    "dict_type": "a mapping of fields to values",
    "tuple_type": "a list",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length} items",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "union_tag_invalid": "{expected_tags}",
}

# the fields that say which kind of a tagged union this is
DISCRIMINATORS = ("type", "kind")


def problems_of(error: ValidationError, document: Document, file: str, model: type[BaseModel]) -> list[Problem]:
    """One problem for each violated rule, the first fifty of them, in the order of the schema."""
    known = _field_names(model)
    errors = error.errors()
    told = (details for details in errors if not _follows_from_items(details, errors))
    found = (problem for details in told for problem in _problems(details, document, file, known))
    return list(islice(found, LIMIT_PROBLEMS))


def _follows_from_items(details: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only because pydantic leaves out items that have problems of their own."""
    place, given = details["loc"], details["input"]
    if (
        details["type"] != "too_short"
        or not isinstance(given, Sized)
        or len(given) < details.get("ctx", {}).get("min_length", 0)
    ):
        return False
    return any(len(each["loc"]) > len(place) and each["loc"][: len(place)] == place for each in errors)


def rule_problem(violation: Violation, prefix: Location, document: Document, file: str) -> Problem:
    """The problem for a broken rule between fields, stated by the model at `prefix`."""
    location = (*prefix, *violation.at)
    return at_line(document, file, location, violation.found, violation.expected, violation.message)


def at_line(document: Document, file: str, location: Location, found: object, expected: str, message: str) -> Problem:
    """A problem whose message begins with the line of the field, or of the nearest mapping around it."""
    name = field_name(location)
    around = location
    while around not in document.lines and around:
        around = around[:-1]
    return Problem(file, name, shown(found, name), expected, f"line {document.lines.get(around, 1)}: {message}")


def location_in(document: Document, location: Location) -> Location:
    """Pydantic's location without the tags of unions, which stand in no file.

    A tagged union puts its tag between the field and what is inside: `source.s3.uri` for `source: {type: s3, uri: …}`,
    `training.train.one` for `train: a text`.
    """
    kept: list[str | int] = []
    value: Any = document.mapping
    tag_follows = False
    for part in location:
        if tag_follows and part in [_inside(value, name) for name in DISCRIMINATORS]:
            tag_follows = False
            continue
        if isinstance(part, str) and not isinstance(value, dict | None):  # a text or list has no fields
            continue
        kept.append(part)
        value = _inside(value, part)
        tag_follows = isinstance(value, dict) and any(name in value for name in DISCRIMINATORS)
    return tuple(kept)


def _inside(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return cast(dict[Any, Any], value).get(part)
    if isinstance(value, list) and isinstance(part, int):
        return cast(list[Any], value)[part]
    return None


def _problems(details: ErrorDetails, document: Document, file: str, known: Collection[str]) -> Iterator[Problem]:
    kind, context = details["type"], details.get("ctx", {})
    location = location_in(document, details["loc"])
    if kind == "rule":
        for violation in cast(list[Violation], context["violations"]):
            yield rule_problem(violation, location, document, file)
        return
    found, expected, message = _words(kind, context, details, location, known)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        location = (*location, _discriminator(context))
    yield at_line(document, file, location, found, expected, message)


def _words(
    kind: str, context: Mapping[str, Any], details: ErrorDetails, location: Location, known: Collection[str]
) -> tuple[object, str, str]:
    found = context["tag"] if kind == "union_tag_invalid" else details["input"]
    if kind == "missing":
        return None, "a value", "the field is missing; add it"
    if kind == "union_tag_not_found":
        name = _discriminator(context)
        return None, f"a field `{name}` that says which kind this is", f"the field `{name}` is missing; add it"
    if kind == "extra_forbidden":
        near = get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else "remove it"
        return found, "no such field", f"the field is unknown; {hint}"
    if kind == "text":
        return found, str(context["expected"]), f"{context['message']}; correct it"
    if kind == "value_error":
        return found, "fields that fit each other", f"{context['error']}; correct it"
    template = _EXPECTED.get(kind)
    expected = template.format_map(context) if template else details["msg"]
    return found, expected, "the value is not allowed here; correct it"


def _discriminator(context: Mapping[str, Any]) -> str:
    """The field that tells kinds apart; pydantic gives its name in quotes."""
    return str(context["discriminator"]).strip("'")


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """Every field name in the model and the models inside it."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return frozenset(name for part in parts for name in part.get("properties", {}))
