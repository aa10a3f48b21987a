"""YAML that means one thing: a small, bounded subset, read without recursion, with the line of every field.

Whoever may push a branch may write these files, so they are adversarial input. What makes YAML dangerous or ambiguous
is refused, never repaired: aliases and anchors (bombs), tags (types), merge keys, several documents, directives,
duplicate keys, keys that are not text, control and direction-changing characters (a reviewer must see what is read).

Plain scalars follow YAML 1.2's core schema in decimal: `null`, `~`, `true`, `false`, `12`, `-1.5`, `1e-4`; everything
else is text, dates too. What YAML 1.1 readers take for something else is an error instead of a surprise: yes/no/on/off/
y/n, octal (010, 0o10), hexadecimal, binary, 1_000, sexagesimal (1:30), `.nan`, `.inf`, numbers that overflow.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, cast

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from llmops_core.errors import InputError, Problem
from llmops_core.showing import field_name, shown

Location = tuple[str | int, ...]

LIMIT_BYTES = 64 * 1024
LIMIT_DEPTH = 20
LIMIT_NODES = 5_000
LIMIT_PROBLEMS = 50

_parse = cast(Callable[[str, type[yaml.CSafeLoader]], Iterator[Event]], yaml.parse)  # pyright: ignore[reportUnknownMemberType]
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_YES_NO = re.compile(r"y|n|yes|no|on|off", re.IGNORECASE)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OTHER_NUMBER = re.compile(
    r"[-+]?(0[0-9_]+(\.[0-9_]*)?([eE][-+]?[0-9]+)?|0o[0-7_]+|0x[0-9a-f_]+|0b[01_]+|[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?"
    r"|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|\.inf)|\.nan",
    re.IGNORECASE,
)
# C0 and C1 controls but tab, line feed, carriage return; line and paragraph separators; what reorders or hides text.
_UNSEEN = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff"
_UNSEEN_IN_FILE = re.compile(f"[{_UNSEEN}]")
_UNSEEN_IN_VALUE = re.compile(f"[{_UNSEEN}\r]")


class Document(NamedTuple):
    """The top-level mapping, and the line (from 1) of each field by its location: `("evaluation", "suites", 0)`."""

    mapping: dict[str, Any]
    lines: dict[Location, int]


def load(content: bytes, file: str) -> Document:
    """The document in `content`. Raises InputError with every problem found; `file` is only named in them."""
    text = _decode(content, file)
    reader = _Reader(file)
    try:
        for event in _parse(text, yaml.CSafeLoader):
            reader.take(event)
    except yaml.YAMLError as error:
        reader.stop((), _line_of(error), "text that is no YAML", "YAML", _reason_of(error))
    return reader.document()


def _decode(content: bytes, file: str) -> str:
    if len(content) > LIMIT_BYTES:
        found = f"{len(content)} bytes"
        raise InputError(Problem(file, "", found, f"at most {LIMIT_BYTES} bytes", "the file is too large; shorten it"))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{content[error.start]:02x}"
        message = f"line {line}: the file is not UTF-8; save it as UTF-8"
        raise InputError(Problem(file, "", found, "UTF-8 text", message)) from error
    if unseen := _UNSEEN_IN_FILE.search(text):
        line = text.count("\n", 0, unseen.start()) + 1
        message = f"line {line}: the file holds a character that people cannot see; delete it"
        raise InputError(Problem(file, "", f"U+{ord(unseen.group()):04X}", "visible text", message))
    return text


def _line_of(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return 1 if mark is None else int(mark.line) + 1


def _reason_of(error: yaml.YAMLError) -> str:
    return f"{getattr(error, 'problem', None) or 'the text cannot be read'}; correct the line"


@dataclass
class _Frame:
    """An open mapping or list. `key` is the key whose value comes next in a mapping."""

    location: Location
    value: dict[str, Any] | list[Any]
    key: str | None = None


@dataclass
class _Reader:
    """Builds the tree from events with a stack of its own, so that nesting costs no Python frames."""

    file: str
    stack: list[_Frame] = field(default_factory=list[_Frame])
    root: dict[str, Any] | None = None
    lines: dict[Location, int] = field(default_factory=dict[Location, int])
    problems: list[Problem] = field(default_factory=list[Problem])
    documents: int = 0
    nodes: int = 0

    def take(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent):
            self._start_document(event)
        elif isinstance(event, CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, NodeEvent):
            self._take_node(event)

    def document(self) -> Document:
        if self.root is None and not self.problems:
            self.note((), 1, "an empty file", "a mapping of fields to values", "the file holds nothing; fill it in")
        if self.problems or self.root is None:
            raise InputError(*self.problems)
        return Document(self.root, self.lines)

    def note(self, location: Location, line: int, found: str, expected: str, message: str) -> None:
        self.problems.append(Problem(self.file, field_name(location), found, expected, f"line {line}: {message}"))
        if len(self.problems) >= LIMIT_PROBLEMS:
            raise InputError(*self.problems)

    def stop(self, location: Location, line: int, found: str, expected: str, message: str) -> NoReturn:
        """Note a problem after which nothing that follows can be trusted."""
        self.note(location, line, found, expected, message)
        raise InputError(*self.problems)

    def _start_document(self, event: DocumentStartEvent) -> None:
        self.documents += 1
        line = event.start_mark.line + 1
        if self.documents > 1:
            self.stop((), line, "a second document", "one document", "remove the line --- and what follows")
        if event.version is not None or event.tags is not None:
            self.note((), line, "a % directive", "no directive", "remove the line that starts with %")

    def _take_node(self, event: NodeEvent) -> None:
        line = event.start_mark.line + 1
        frame = self.stack[-1] if self.stack else None
        self.nodes += 1
        if self.nodes > LIMIT_NODES:
            self.stop((), line, f"over {LIMIT_NODES} values", f"at most {LIMIT_NODES}", "shorten the file")
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._take_key(event, frame, line)
            return
        location = self._location_of_next(frame)
        line = self.lines.setdefault(location, line)  # in a mapping, the line of the key
        self._refuse_references(event, location, line)
        if isinstance(event, CollectionStartEvent):
            self._open(event, frame, location, line)
            return
        if frame is None:
            self.stop((), line, "a single value", "a mapping of fields to values", "write `field: value` lines")
        _attach(frame, self._scalar(event, location, line) if isinstance(event, ScalarEvent) else None)

    def _location_of_next(self, frame: _Frame | None) -> Location:
        if frame is None:
            return ()
        if isinstance(frame.value, list):
            return (*frame.location, len(frame.value))
        return (*frame.location, str(frame.key))

    def _refuse_references(self, event: NodeEvent, location: Location, line: int) -> None:
        if isinstance(event, AliasEvent):
            self.note(location, line, f"the alias {shown(event.anchor)}", "the value itself", "aliases are not allowed")
            return
        if event.anchor is not None:
            self.note(
                location, line, f"the anchor {shown(event.anchor)}", "no anchor", "anchors are not allowed; remove it"
            )
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            self.note(location, line, f"the tag {shown(tag)}", "no tag", "tags are not allowed; remove it")

    def _open(self, event: CollectionStartEvent, frame: _Frame | None, location: Location, line: int) -> None:
        if len(self.stack) >= LIMIT_DEPTH:
            self.stop(location[:4], line, f"over {LIMIT_DEPTH} levels", f"at most {LIMIT_DEPTH}", "nested too deeply")
        opened = _Frame(location, {} if isinstance(event, MappingStartEvent) else [])
        if frame is not None:
            _attach(frame, opened.value)
        elif isinstance(opened.value, dict):
            self.root = opened.value
        else:
            self.stop((), line, "a list", "a mapping of fields to values", "write `field: value` lines")
        self.stack.append(opened)

    def _take_key(self, event: NodeEvent, frame: _Frame, line: int) -> None:
        self._refuse_references(event, frame.location, line)
        if not isinstance(event, ScalarEvent):
            self.stop(frame.location, line, "a key that is no text", "a name", "write a plain name before the colon")
        location = (*frame.location, event.value)
        if event.value == "<<" and not event.style:
            self.note(frame.location, line, "the merge key <<", "no merge key", "write the fields out")
        elif not isinstance(self._scalar(event, location, line), str):
            self.note(frame.location, line, f"the key {shown(event.value)}", "a name", "put the key in quotes")
        if event.value in frame.value:
            first = self.lines[location]
            self.note(location, line, "the key again", "each key once", f"the key stands in line {first} already")
        self.lines.setdefault(location, line)
        frame.key = event.value

    def _scalar(self, event: ScalarEvent, location: Location, line: int) -> str | int | float | bool | None:
        if unseen := _UNSEEN_IN_VALUE.search(event.value):
            found = f"U+{ord(unseen.group()):04X}"
            self.note(location, line, found, "visible text", "the text holds a character that people cannot see")
        if event.style:
            return event.value
        value = plain_value(event.value)
        if isinstance(value, Ambiguous):
            self.note(location, line, shown(event.value, field_name(location)), value.expected, value.message)
            return event.value
        return value


def _attach(frame: _Frame, value: Any) -> None:
    if isinstance(frame.value, list):
        frame.value.append(value)
    else:
        frame.value[str(frame.key)] = value
        frame.key = None


@dataclass(frozen=True)
class Ambiguous:
    """A plain scalar that two YAML readers take for two things, or that no number can hold."""

    expected: str
    message: str


def plain_value(text: str) -> str | int | float | bool | Ambiguous | None:
    """What a scalar without quotes means, by the rules in this module's docstring."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _YES_NO.fullmatch(text):
        return Ambiguous("true or false, or the word in quotes", "some YAML readers take this word for a boolean")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not text.strip("+-").isdigit():
        number = float(text)
        if abs(number) == float("inf"):
            return Ambiguous("a smaller number, or the text in quotes", "the number is too large")
        return number
    if _OTHER_NUMBER.fullmatch(text):
        return Ambiguous(
            "a decimal number of at most 18 digits, or the text in quotes",
            "YAML readers disagree on what this is, or it is no finite number",
        )
    return text
