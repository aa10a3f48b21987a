"""Label and field selectors, as the query string of a list or watch carries them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.kubernetes_errors import bad_request
from tests.fakes.kubernetes_kinds import Kind
from tests.fakes.kubernetes_names import LABEL, VALUE_RULE

Json = dict[str, Any]
Test = Callable[[Mapping[str, str]], bool]

_SET = re.compile(r"^\s*(?P<key>[^\s!=<>(),]+)\s+(?P<how>in|notin)\s*\((?P<values>[^()]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=<>(),]+)\s*(?P<how>==|=|!=|<|>)\s*(?P<value>[^\s!=<>(),]*)\s*$")
_PRESENT = re.compile(r"^\s*(?P<no>!?)\s*(?P<key>[^\s!=<>(),]+)\s*$")


def label_test(selector: str) -> Test:
    if selector.rstrip().endswith(","):
        raise bad_request("found '', expected: identifier after ','")
    tests = [_label_term(term, selector) for term in _split(selector)]
    return lambda labels: all(test(labels) for test in tests)


def _split(selector: str) -> list[str]:
    """At commas outside parentheses."""
    return [part for part in re.split(r",(?![^(]*\))", selector) if part.strip()] if selector else []


def _label_term(term: str, selector: str) -> Test:
    if found := _SET.match(term):
        key, values = found["key"], [value.strip() for value in found["values"].split(",")]
        _check_values(key, values)
        if found["how"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(term):
        key, value, how = found["key"], found["value"], found["how"]
        _check_values(key, [value])
        if how in "<>":
            return lambda labels: _compared(labels.get(key, ""), value, how)
        if how == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _PRESENT.match(term):
        key, absent = found["key"], bool(found["no"])
        return lambda labels: (key not in labels) if absent else key in labels
    raise bad_request(f'unable to parse requirement: found "{selector}", expected: a label selector')


def _check_values(key: str, values: list[str]) -> None:
    for at, value in enumerate(values):
        if value and not re.fullmatch(LABEL, value):
            said = f'values[{at}][{key}]: Invalid value: "{value}": {VALUE_RULE}'
            raise bad_request(f"unable to parse requirement: {said}")


def _compared(held: str, value: str, how: str) -> bool:
    if not held.isdigit() or not value.isdigit():
        return False
    return int(held) > int(value) if how == ">" else int(held) < int(value)


def field_test(selector: str, kind: Kind) -> Callable[[Json], bool]:
    terms: list[tuple[str, bool, str]] = []
    for term in _split(selector):
        found = re.match(r"^\s*([^=!\s]+)\s*(==|=|!=)\s*(.*?)\s*$", term)
        if not found:
            raise bad_request(f"invalid selector: '{selector}'; can't understand '{term}'")
        path, how, value = found.groups()
        if path not in kind.selectable:
            raise bad_request(_unknown_field(path, kind))
        terms.append((path, how != "!=", value))
    return lambda found: all((field_of(found, path) == value) is wanted for path, wanted, value in terms)


def _unknown_field(path: str, kind: Kind) -> str:
    if kind.plural == "jobs":
        return f'field label "{path}" not supported for Job'
    if kind.fields or kind.custom:
        return f"field label not supported: {path}"
    return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def field_of(found: Json, path: str) -> str:
    """The value as selectors compare it: text, absent is empty."""
    if path == "status.successful":
        path = "status.succeeded"
    if path == "source":
        return str(found.get("source", {}).get("component", "") or found.get("reportingComponent", ""))
    value: Any = found
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    if path == "status.succeeded":
        return str(value or 0)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def matches(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """A selector inside an object (`matchLabels`, `matchExpressions`); an empty one matches all."""
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        held, values = labels.get(term["key"]), term.get("values") or []
        answer = {
            "In": held in values,
            "NotIn": held not in values,
            "Exists": held is not None,
            "DoesNotExist": held is None,
        }[term["operator"]]
        if not answer:
            return False
    return True
