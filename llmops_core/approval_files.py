"""The lists that an environment's settings name, judged in the tree: whose keys count, who holds which role.

An environment reads those of `approvals` whoever signs, a person or its own machine: without them no version gets
traffic. Without the one of `platform.signing`, which only platforms in pods have, none is registered.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from llmops_core.allowed_signers import problems_of_signers
from llmops_core.approvers import load_approvers
from llmops_core.errors import InputError, Problem
from llmops_core.fields import RelativePath
from llmops_core.problems import at_line
from llmops_core.strict_yaml import Document, Location

_PATH: TypeAdapter[str] = TypeAdapter(RelativePath)


def named_by(document: Document) -> dict[Location, str]:
    """{field: path} of the well-formed paths; the malformed ones are reported by the schema."""
    named: dict[Location, str] = {}
    for field in _JUDGES:
        given: Any = document.mapping
        for key in field:
            given = cast(dict[Any, Any], given).get(key) if isinstance(given, dict) else None
        try:
            named[field] = _PATH.validate_python(given)
        except ValidationError:
            continue
    return named


def approval_problems(
    settings: Mapping[str, Document], files: Mapping[str, bytes], others: Mapping[str, str]
) -> Iterator[Problem]:
    """What is wrong with the lists: each file once, each field that names a missing one with its line.

    `settings`: {environment: its file}. `others`: {path: what stands there} of what is no readable file.
    """
    judged: set[tuple[Location, str]] = set()
    for stem, document in settings.items():
        for field, path in named_by(document).items():
            if path not in files:
                found = others.get(path, "nothing")
                message = f"{found} is there, and {_LOST[field]}; put a file there, or name another"
                yield at_line(document, f"config/{stem}.yaml", field, path, "a plain file of this repository", message)
            elif (field, path) not in judged:
                judged.add((field, path))
                yield from _JUDGES[field](files[path], path)


def _approvers(content: bytes, file: str) -> list[Problem]:
    try:
        load_approvers(content, file)
    except InputError as error:
        return list(error.problems)
    return []


_SIGNERS, _APPROVERS, _PLATFORM = (
    ("approvals", "signers"),
    ("approvals", "approvers"),
    ("platform", "signing", "signers"),
)
_LOST: dict[Location, str] = {
    _SIGNERS: "nobody's signature would count",
    _APPROVERS: "nobody would hold a role",
    _PLATFORM: "no version's signature would count",
}
_JUDGES: dict[Location, Callable[[bytes, str], list[Problem]]] = {
    _SIGNERS: problems_of_signers,
    _APPROVERS: _approvers,
    _PLATFORM: problems_of_signers,
}
