"""Question/answer rows from JSON Lines, with every fault named by file and line before any training starts."""

import json
from dataclasses import dataclass
from pathlib import Path

from llmops_core.errors import InputError, Problem

SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Question:
    """One row: what is asked, and the answer wanted. Other keys of the row are tags and stay in the file."""

    prompt: str
    response: str


def read_questions(path: Path) -> list[Question]:
    """All rows of a file. Raises InputError with line numbers if missing, empty, not UTF-8 or malformed."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise _problem(path, "", "no such file", "a JSON Lines file", "the data is missing") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{error.object[error.start]:02x}"
        raise _problem(path, f"line {line}", found, "UTF-8 text", "not readable as text") from None
    questions, problems = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            questions.append(_question(path, number, line))
        except InputError as error:
            problems.extend(error.problems)
            if len(problems) >= SHOWN_PROBLEMS:
                break
    if problems:
        raise InputError(*problems)
    if not questions:
        raise _problem(path, "", "no rows", "at least one row", "the data is empty")
    return questions


def _question(path: Path, number: int, line: str) -> Question:
    where = f"line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _problem(path, where, line[:60], "one JSON object a line", f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise _problem(path, where, type(row).__name__, "a JSON object", "wrong shape")
    for name in ("prompt", "response"):
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            raise _problem(path, f"{where}, {name}", repr(value)[:60], "text that is not blank", "wrong shape")
    return Question(row["prompt"], row["response"])


def _problem(path: Path, field: str, found: str, expected: str, message: str) -> InputError:
    return InputError(Problem(str(path), field, found, expected, message))
