"""The model card: what a person should know before using a version, in Markdown.

Every fact comes from the evidence and is never typed in by hand; what is not known says so instead of being left out.
Descriptions, owners and names come from the branch under review and are shown on pages of the registry, so they are
escaped: no markup and no HTML of theirs takes effect, no link hides where it leads, and characters that reorder text
are removed.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llmops_core.registration import VersionFacts

UNKNOWN = "not known"
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKUP = re.compile(r"([\\`*_\[\]|~$])")
_BLOCK_START = re.compile(r"^([#+\-=]|\d+(?=[.)]))")


@dataclass(frozen=True)
class DataFacts:
    """`rows` counts rows by split; `pii` is the sentence of the scan for personal data."""

    rows: Mapping[str, int]
    classification: str | None
    pii: str | None


@dataclass(frozen=True)
class TrainingFacts:
    """`parameters` as model.yaml gives them; the losses are those of the first and last step."""

    method: str
    parameters: Mapping[str, object]
    first_loss: float | None
    last_loss: float | None


@dataclass(frozen=True)
class Measured:
    """One line of the evaluation: a value with its confidence interval, and the limit it was judged against."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    verdict: str


@dataclass(frozen=True)
class CardFacts:
    version: VersionFacts
    description: str
    owners: tuple[str, ...]
    base: str  # what was fine-tuned, in words: a Hugging Face name, an address, "pretrained here"
    data: DataFacts
    training: TrainingFacts
    evaluation: tuple[Measured, ...]
    limits: tuple[str, ...] = field(default=())


def render(card: CardFacts) -> str:
    """The card as Markdown, the same text for the same facts."""
    version = card.version
    parts = [
        f"# {escaped(version.model)} {escaped(version.semver)}",
        _paragraphs(card.description),
        "## Origin",
        _table(
            ("what", "value"),
            [
                ("owners", escaped(", ".join(card.owners)) or UNKNOWN),
                ("commit", f"`{version.revision}`"),
                ("weights", f"`{version.weights_digest}`"),
                ("evaluation", f"`{version.evaluation_digest}`"),
                ("base", f"{_text(card.base)}, `{version.base_digest}`"),
            ],
        ),
        "## Data",
        _table(
            ("what", "value"),
            [
                ("content", f"`{version.data_digest}`"),
                ("DVC", f"`{version.data_hash}`"),
                *((f"rows, {escaped(split)}", str(rows)) for split, rows in sorted(card.data.rows.items())),
                ("classification", _text(card.data.classification)),
                ("personal data", _text(card.data.pii)),
            ],
        ),
        "## Training",
        _table(("what", "value"), _training_rows(card.training)),
        "## Evaluation",
        _evaluation(card.evaluation),
        "## Limits",
        "\n".join(f"- {escaped(limit)}" for limit in card.limits) or f"Limits are {UNKNOWN}.",
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """The text on one line, so that Markdown and HTML show it as it is."""
    visible = "".join(c if not unicodedata.category(c).startswith("C") else " " for c in text)
    line = " ".join(visible.split())
    inline = _MARKUP.sub(r"\\\1", re.sub("[&<>]", lambda found: _HTML[found.group()], line))
    return _BLOCK_START.sub(lambda start: _not_a_block(start.group()), inline)


def _not_a_block(start: str) -> str:
    """The marker of a list or heading, or the number of a list's item, so that it is only a character or number."""
    return f"{start}\\" if start[0].isdigit() else f"\\{start}"


def _paragraphs(text: str) -> str:
    blocks = [escaped(block) for block in re.split(r"\n\s*\n", text)]
    return "\n\n".join(block for block in blocks if block) or f"The intended use is {UNKNOWN}."


def _text(text: str | None) -> str:
    return escaped(text or "") or UNKNOWN


def _training_rows(training: TrainingFacts) -> Iterable[tuple[str, str]]:
    yield "method", _text(training.method)
    for name, value in sorted(training.parameters.items()):
        yield escaped(name), _text(str(value))
    yield "loss", f"{_number(training.first_loss)} at the first step, {_number(training.last_loss)} at the last"


def _evaluation(measured: tuple[Measured, ...]) -> str:
    if not measured:
        return "Nothing was measured."
    heads = ("measure", "value", "95 % interval", "limit", "verdict")
    rows = [
        (escaped(m.name), _number(m.value), _interval(m.low, m.high), _number(m.limit), escaped(m.verdict))
        for m in measured
    ]
    return _table(heads, rows)


def _interval(low: float | None, high: float | None) -> str:
    return UNKNOWN if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4g}"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
