"""The building blocks of every input's schema: strict, frozen models and the texts that may stand in a field.

Strict means that nothing is converted: "2" is no number, true is no 1, and an unknown key is an error. Every refusal
carries what was expected in plain words, so that `llmops_core.problems` can tell it to a person.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from llmops_core import names
from llmops_core.strict_yaml import Location

Item = TypeVar("Item")
# A list in YAML, a tuple here; only this step is not strict, the items are.
Listing = Annotated[tuple[Item, ...], Field(strict=False)]


class Strict(BaseModel):
    """A mapping of the input with exactly these fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # a secret in a wrong place must not reach a log
        validate_default=True,  # so that a default of 32 and a given 32 are the same number, 32.0
    )


class Violation(NamedTuple):
    """A broken rule between fields: where (relative to the model that states the rule), what, and what to do."""

    at: Location
    found: object
    expected: str
    message: str


def refuse(violations: Iterable[Violation]) -> None:
    """End a model's validation if there are any, all of them in one error."""
    found = list(violations)
    if found:
        summary = "; ".join(f"{violation.message} (expected {violation.expected})" for violation in found)
        raise PydanticCustomError("rule", "{summary}", {"summary": summary, "violations": found})


@dataclass(frozen=True)
class Text:
    """A text that matches `pattern` wholly, and that `also` finds no fault with (a fault is a sentence)."""

    pattern: str
    expected: str
    longest: int
    also: Callable[[str], str | None] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern, "maxLength": self.longest}

    def check(self, text: str) -> str:
        fault = None
        if len(text) > self.longest:
            fault = f"the text is longer than {self.longest} characters"
        elif re.fullmatch(self.pattern, text) is None:
            fault = "the text has another form"
        elif self.also is not None:
            fault = self.also(text)
        if fault is not None:
            raise PydanticCustomError("text", "{message}", {"message": fault, "expected": self.expected})
        return text


def _fault_of_path(text: str) -> str | None:
    for part in text.split("/"):
        if part in (".", ".."):
            return "the path holds . or .., and could leave its folder"
        if part.lower() in (".git", ".llmops", ".dvc"):
            return f"the path leads into {part}, which belongs to a program"
    return None


_PATH = r"^[A-Za-z0-9_.][A-Za-z0-9_.+=@-]*(/[A-Za-z0-9_.][A-Za-z0-9_.+=@-]*)*$"

ModelName = Annotated[
    str,
    Text(
        names.MODEL_NAME_PATTERN,
        "lower-case letters, digits, hyphens and dots, at most 63, such as llama-3.1-8b",
        names.MODEL_NAME_LENGTH,
    ),
]
Version = Annotated[
    str,
    Text(
        r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
        r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
        r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$",
        "a semantic version, such as 1.4.0",
        64,
    ),
]
Owner = Annotated[
    str,
    Text(
        r"^(team:[A-Za-z0-9][A-Za-z0-9_.-]*|[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)$",
        "an e-mail address or team:name",
        254,
    ),
]
Label = Annotated[
    str,
    Text(r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$", "lower-case letters, digits, and - . _ between them", 63),
]
# Symbolic links are not seen here: whoever opens the path resolves it and checks that it is still inside the folder.
RelativePath = Annotated[
    str,
    Text(_PATH, "a path relative to the repository: a/b, without .., ~, \\ or a leading /", 255, _fault_of_path),
]
FileName = Annotated[
    str,
    Text(
        r"^[A-Za-z0-9_][A-Za-z0-9_.+=@-]*$",
        "the name of a file, such as train.jsonl, without a folder",
        128,
    ),
]
Description = Annotated[str, Field(min_length=1, max_length=2000)]
