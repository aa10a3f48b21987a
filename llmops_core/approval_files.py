"""The two lists that an environment's `approvals` names, judged in the tree: whose keys count, who holds which role.

An environment reads both whoever signs, a person or its own machine: without them no version gets traffic.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from llmops_core.allowed_signers import problems_of_signers
from llmops_core.approvers import load_approvers
from llmops_core.errors import InputError, Problem
from llmops_core.fields import RelativePath
from llmops_core.problems import at_line
from llmops_core.strict_yaml import Document

_PATH: TypeAdapter[str] = TypeAdapter(RelativePath)


def named_by(document: Document) -> dict[str, str]:
    """{field of approvals: path} of the well-formed paths; the malformed ones are reported by the schema."""
    given: Any = document.mapping.get("approvals")
    section = cast(dict[str, Any], given) if isinstance(given, dict) else {}
    named: dict[str, str] = {}
    for field in _JUDGES:
        try:
            named[field] = _PATH.validate_python(section.get(field))
        except ValidationError:
            continue
    return named


def approval_problems(
    settings: Mapping[str, Document], files: Mapping[str, bytes], others: Mapping[str, str]
) -> Iterator[Problem]:
    """What is wrong with the lists: each file once, each field that names a missing one with its line.

    `settings`: {environment: its file}. `others`: {path: what stands there} of what is no readable file.
    """
    judged: set[tuple[str, str]] = set()
    for stem, document in settings.items():
        for field, path in named_by(document).items():
            if path not in files:
                found = others.get(path, "nothing")
                message = f"{found} is there, and {_LOST[field]}; put a file there, or name another"
                where = ("approvals", field)
                yield at_line(document, f"config/{stem}.yaml", where, path, "a plain file of this repository", message)
            elif (field, path) not in judged:
                judged.add((field, path))
                yield from _JUDGES[field](files[path], path)


def _approvers(content: bytes, file: str) -> list[Problem]:
    try:
        load_approvers(content, file)
    except InputError as error:
        return list(error.problems)
    return []


_LOST = {"signers": "nobody's signature would count", "approvers": "nobody would hold a role"}
_JUDGES: dict[str, Callable[[bytes, str], list[Problem]]] = {"signers": problems_of_signers, "approvers": _approvers}
