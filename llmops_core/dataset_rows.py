"""JSON Lines read strictly: one object a line, with texts `prompt` and `response`, and `tags` maybe, a list of texts.

Strict means that a line has one meaning in every reader: UTF-8, no key twice, no NaN, no lone surrogates, and no
control characters, which would reach the tokenizer unseen, nor marks that show a text in another order than it is read.
What is written for layout alone (soft hyphens, joiners) may stay, since several scripts need it, and makes no
difference where texts are compared. Everything wrong is collected, with file and line.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from llmops_core.errors import Problem

REQUIRED = ("prompt", "response")
# all controls but \t and \n, and what reorders
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ufeff\ufffe\uffff\ud800-\udfff]")
# in a line of JSON: escaped, or as it is
_MAY_HOLD_UNSEEN = re.compile("\\\\[ubfr]|[\x7f-\x9f\u202a-\u202e\ufeff\ufffe\uffff]")
_LAYOUT = re.compile("[\xad\u034f\u061c\u200b-\u200f\u2060-\u2064\u2066-\u206f]")
_END_OF_QUESTION = " ?!.…。？！؟"
_WORDS: dict[Any, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


@dataclass(frozen=True)
class Row:
    """One line: its number from 1, and the object with all its fields."""

    line: int
    values: dict[str, Any]

    @property
    def prompt(self) -> str:
        return self.values["prompt"]

    @property
    def response(self) -> str:
        return self.values["response"]


@dataclass
class Problems:
    """Collects problems up to a limit of each kind, then only counts them."""

    limit: int
    shown: list[Problem] = field(default_factory=list[Problem])
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, problem: Problem) -> None:
        count = self.counts[problem.message] = self.counts.get(problem.message, 0) + 1
        if count <= self.limit:
            self.shown.append(problem)

    def all(self) -> list[Problem]:
        """The problems shown, and one more for each kind of which there are more."""
        more = [
            Problem("data", "", f"{count - self.limit} more rows", "none", f"as above: {message}")
            for message, count in self.counts.items()
            if count > self.limit
        ]
        return [*self.shown, *more]


def parse_rows(name: str, lines: Iterable[bytes], maximum_characters: int, problems: Problems) -> list[Row]:
    """The sound rows of one file, given as its lines; `problems` gets the others."""
    return parse_lines(name, lines, lambda values: _check_fields(values, maximum_characters), problems)


def parse_lines(
    name: str, lines: Iterable[bytes], check: Callable[[dict[str, Any]], None], problems: Problems
) -> list[Row]:
    """The lines that are objects of visible text which `check` does not refuse; `problems` gets the others."""
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            text = _text(line)
            values = _object(text)
            check(values)
            if _MAY_HOLD_UNSEEN.search(text):
                _check_characters(values)
        except Refused as refused:
            where = f"line {number}" + (f": {refused.where}" if refused.where else "")
            problems.add(Problem(name, where, refused.found, refused.expected, refused.message))
        else:
            rows.append(Row(number, values))
    return rows


def same_text(text: str) -> str:
    """Equal for texts that read the same: composed characters, white space collapsed, layout left out. Case is kept."""
    return " ".join(unicodedata.normalize("NFC", _LAYOUT.sub("", text)).split())


def same_question(text: str) -> str:
    """Equal for prompts that ask the same thing: also without case, width and compatibility variants (NFKC), and
    whichever mark ends them."""
    plain = " ".join(unicodedata.normalize("NFKC", _LAYOUT.sub("", text)).casefold().split())
    return plain.rstrip(_END_OF_QUESTION) or plain


class Refused(Exception):
    """One line's first fault: the field (`where`), what stands there, what should, and what to do."""

    def __init__(self, where: str, found: str, expected: str, message: str) -> None:
        super().__init__(message)
        self.where, self.found, self.expected, self.message = where, found, expected, message


def _text(line: bytes) -> str:
    if not line.strip():
        raise Refused("", "an empty line", "a JSON object", "every line must hold a row; remove the line")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = f"the byte 0x{line[error.start]:02x} at position {error.start}"
        raise Refused("", byte, "UTF-8 text", "the line is not UTF-8; save the file as UTF-8") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise Refused("", "deep nesting", "a flat JSON object", "the line is nested too deeply") from None
    except ValueError as error:
        raise Refused("", str(error)[:200], "a JSON object", "the line is no JSON") from None
    if not isinstance(value, dict):
        raise Refused("", kind_of(value), "a JSON object", "write each line as an object, {…}")
    return cast(dict[str, Any], value)


def _check_fields(values: dict[str, Any], maximum_characters: int) -> None:
    for name in REQUIRED:
        check_text(values, name, maximum_characters)
    tags: Any = values.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in cast(list[Any], tags)):
        raise Refused("tags", kind_of(tags), "a list of texts", "the field is no list of texts")


def check_text(values: dict[str, Any], name: str, maximum_characters: int, may_be_blank: bool = False) -> None:
    """Raises Refused unless the field is a text that says something and is not too long."""
    if name not in values:
        raise Refused(name, "nothing", "a text", "the field is missing")
    text = values[name]
    if not isinstance(text, str):
        raise Refused(name, kind_of(text), "a text", "the field is no text")
    if not same_text(text) and not may_be_blank:
        raise Refused(name, "an empty text", "a text", "the field is empty")
    if len(text) > maximum_characters:
        expected = f"at most {maximum_characters} characters"
        raise Refused(name, f"{len(text)} characters", expected, "the text is too long")


def _check_characters(values: dict[str, Any]) -> None:
    for text in texts_of(values):
        if unseen := _UNSEEN.search(text):
            found = f"U+{ord(unseen.group()):04X}"
            raise Refused("", found, "visible text", "a text holds a character that people cannot see")


def texts_of(values: dict[str, Any]) -> list[str]:
    """All texts anywhere in a row, keys too."""
    texts: list[str] = []
    waiting: list[Any] = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            fields = cast(dict[str, Any], value)
            texts += fields
            waiting += reversed(fields.values())
        elif isinstance(value, list):
            waiting += reversed(cast(list[Any], value))
    return texts


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    return _WORDS[type(value)]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands there twice")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
