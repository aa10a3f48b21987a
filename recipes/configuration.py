"""The config.json that a recipe is given: a part of model.yaml, read into the schema's own types."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from llmops_core.errors import InputError, Problem

Configuration = TypeVar("Configuration", bound=BaseModel)


def read_configuration(path: Path, kind: type[Configuration]) -> Configuration:
    """Raises InputError naming every field that is missing or wrong."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        problem = Problem(str(path), "", "no such file", "a JSON file", "the configuration is missing")
        raise InputError(problem) from None
    except ValidationError as error:
        problems = []
        for each in error.errors():
            field = ".".join(map(str, each["loc"]))
            problems.append(Problem(str(path), field, repr(each["input"])[:80], each["type"], each["msg"]))
        raise InputError(*problems) from None
