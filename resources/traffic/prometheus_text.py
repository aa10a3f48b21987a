"""Prometheus' text format, read strictly: what cannot be read is an error, for a line skipped is a failure lost."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"[ \t]*(,|$)')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass(frozen=True)
class Sample:
    name: str
    labels: dict[str, str]
    value: float


def parse_samples(text: str, prefix: str = "") -> Iterator[Sample]:
    """Every sample whose name begins with `prefix`. Raises ValueError with the line that is not of the format."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith(prefix) and line.strip() and not line.startswith("#"):
            yield _sample(line, number)


def _sample(line: str, number: int) -> Sample:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"line {number} is no sample: {line[:200]!r}")
    return Sample(found[1], _labels(found[2] or "", number), float(found[3]))


def _labels(text: str, number: int) -> dict[str, str]:
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = _LABEL.match(text, position)
        if found is None:
            raise ValueError(f"line {number} has a broken label at {text[position:][:80]!r}")
        labels[found[1]] = re.sub(r'\\[n"\\]', lambda escape: _ESCAPES[escape[0]], found[2])
        position = found.end()
    return labels
