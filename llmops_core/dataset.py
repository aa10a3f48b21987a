"""From the files that a data version holds to rows that may be trained on, and a report of what they are.

What would make training or evaluation lie stops here: rows of wrong shape, nothing at all, prompts that stand both in
training and in evaluation, and (where the model's policy says so) personal data. Rows that say the same twice are
dropped within a file, because they would count twice; rows that contradict each other are kept and reported.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, cast

from llmops_core.dataset_rows import REQUIRED, Problems, Row, parse_rows, same_question, same_text, texts_of
from llmops_core.errors import InputError, Problem
from llmops_core.personal_data import find, mask_all
from llmops_core.verdict import Finding, Verdict

LENGTH_EDGES = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
TOP_VALUES = 10
FIELDS_SHOWN = 10
SAMPLE_ROWS = 5
SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class CurationPolicy:
    """`training_files` are learnt from; the prompts of all other files must not occur in them."""

    training_files: frozenset[str]
    personal_data: Literal["refuse", "report"] = "refuse"
    maximum_characters: int = LENGTH_EDGES[-1]
    problems_shown: int = 20


@dataclass(frozen=True)
class FileReport:
    """Rows of one file. `conflicts` are prompts that have more than one response."""

    rows_read: int
    rows_kept: int
    duplicates_dropped: int
    conflicts: int


@dataclass(frozen=True)
class Histogram:
    """`counts[i]` texts have a length in characters from `edges[i]` to below `edges[i + 1]`; the last has no end."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class DatasetReport:
    """What people look at. Personal data is masked everywhere: `personal_examples` are (file, line, kind, masked).

    `labels` are the most frequent values of the rows' other fields (tags, groups …), each with its count.
    """

    files: dict[str, FileReport]
    prompt_characters: Histogram
    response_characters: Histogram
    labels: dict[str, tuple[tuple[str, int], ...]]
    conflict_examples: tuple[tuple[str, tuple[int, ...]], ...]
    personal_data: dict[str, int]
    personal_examples: tuple[tuple[str, int, str, str], ...]
    sample: tuple[dict[str, str], ...]

    @property
    def rows(self) -> int:
        return sum(file.rows_kept for file in self.files.values())

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, **asdict(self)}


class Curation(NamedTuple):
    """The report, and the rows to use: {file: objects with all their fields}."""

    report: DatasetReport
    rows: dict[str, list[dict[str, Any]]]


@dataclass
class _Scan:
    counts: Counter[str] = field(default_factory=Counter[str])
    examples: list[tuple[str, int, str, str]] = field(default_factory=list[tuple[str, int, str, str]])


def curate(files: Mapping[str, Sequence[bytes]], policy: CurationPolicy) -> Curation:
    """Judge and clean JSON Lines files, given as {name: lines}. Raises InputError with everything found wrong."""
    problems = Problems(policy.problems_shown)
    _check_presence(files, policy, problems)
    read = {name: parse_rows(name, files[name], policy.maximum_characters, problems) for name in sorted(files)}
    kept: dict[str, list[Row]] = {}
    reports: dict[str, FileReport] = {}
    conflicts: list[tuple[str, tuple[int, ...]]] = []
    for name, rows in read.items():
        kept[name] = _without_duplicates(rows)
        lines = _conflicts(kept[name])
        conflicts += [(name, several) for several in lines]
        reports[name] = FileReport(len(rows), len(kept[name]), len(rows) - len(kept[name]), len(lines))
    _check_leakage(kept, policy, problems)
    scan = _scan(kept, policy, problems)
    if found := problems.all():
        raise InputError(*found)
    everything = [row for rows in kept.values() for row in rows]
    report = DatasetReport(
        files=reports,
        prompt_characters=_histogram(len(row.prompt) for row in everything),
        response_characters=_histogram(len(row.response) for row in everything),
        labels=_labels(everything),
        conflict_examples=tuple(conflicts[: policy.problems_shown]),
        personal_data=dict(scan.counts),
        personal_examples=tuple(scan.examples),
        sample=_sample(kept, policy),
    )
    return Curation(report, {name: [row.values for row in rows] for name, rows in kept.items()})


def judge_conflicts(report: Mapping[str, Any]) -> Finding:
    """FAILED, with examples, where a prompt has several responses: a model cannot learn both. Takes `as_dict()`."""
    files: Mapping[str, Any] | None = report.get("files")
    if files is None:
        return Finding("unanimous", Verdict.ERROR, "the report counts no contradictions")
    count = sum(int(file["conflicts"]) for file in files.values())
    if not count:
        return Finding("unanimous", Verdict.PASSED, "every prompt has one response", 0, 0)
    places = "; ".join(f"{name} lines {', '.join(map(str, lines))}" for name, lines in report["conflict_examples"][:3])
    said = f"{count} {'prompts have' if count > 1 else 'prompt has'} more than one response: {places}"
    return Finding("unanimous", Verdict.FAILED, said, count, 0)


def _check_presence(files: Mapping[str, Sequence[bytes]], policy: CurationPolicy, problems: Problems) -> None:
    if not files:
        problems.add(Problem("data", "", "no files", "at least one *.jsonl file", "the dataset is empty"))
    for name in sorted(policy.training_files - files.keys()):
        there = ", ".join(sorted(files)) or "none"
        problems.add(Problem("data", name, "no such file", f"one of: {there}", "the training file is missing"))
    for name, lines in files.items():
        if not any(line.strip() for line in lines):
            problems.add(Problem(name, "", "an empty file", "at least one row", "the file is empty"))


def _without_duplicates(rows: Iterable[Row]) -> list[Row]:
    """The first row of each prompt with response, in order."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((same_text(row.prompt), same_text(row.response)), row)
    return list(first.values())


def _conflicts(rows: Iterable[Row]) -> list[tuple[int, ...]]:
    """Lines of rows that ask the same and answer differently."""
    asked: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        asked[same_question(row.prompt)].append(row)
    return [
        tuple(row.line for row in several)
        for several in asked.values()
        if len({same_text(row.response) for row in several}) > 1
    ]


def _check_leakage(kept: Mapping[str, list[Row]], policy: CurationPolicy, problems: Problems) -> None:
    trained: dict[str, tuple[str, int]] = {}
    for name in sorted(policy.training_files & kept.keys()):
        for row in kept[name]:
            trained.setdefault(same_question(row.prompt), (name, row.line))
    for name in sorted(kept.keys() - policy.training_files):
        for row in kept[name]:
            if origin := trained.get(same_question(row.prompt)):
                found = f"the prompt of {origin[0]} line {origin[1]}"
                message = "a prompt to evaluate with is trained on; remove it from one of the two files"
                problems.add(Problem(name, f"line {row.line}: prompt", found, "a prompt of its own", message))


def _scan(kept: Mapping[str, list[Row]], policy: CurationPolicy, problems: Problems) -> _Scan:
    scan = _Scan()
    for name, rows in kept.items():
        for row in rows:
            for match in find("\n".join(texts_of(row.values))):
                scan.counts[match.kind] += 1
                if len(scan.examples) < policy.problems_shown:
                    scan.examples.append((name, row.line, match.kind, match.masked))
                if policy.personal_data == "refuse":
                    found = f"{match.kind} {match.masked}"
                    message = "the row holds personal data; remove it, or set data.pii to report"
                    problems.add(Problem(name, f"line {row.line}", found, "no personal data", message))
    return scan


def _histogram(lengths: Iterable[int]) -> Histogram:
    counts = [0] * len(LENGTH_EDGES)
    for length in lengths:
        counts[bisect_right(LENGTH_EDGES, length) - 1] += 1
    return Histogram(LENGTH_EDGES, tuple(counts))


def _labels(rows: Iterable[Row]) -> dict[str, tuple[tuple[str, int], ...]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for name, value in row.values.items():
            if name not in REQUIRED and isinstance(value, (str, list)):
                values = [value] if isinstance(value, str) else cast(list[Any], value)
                counts[name].update(item for item in values if isinstance(item, str))
    return {
        _shown(name): tuple((_shown(value), count) for value, count in values.most_common(TOP_VALUES))
        for name, values in list(counts.items())[:FIELDS_SHOWN]
    }


def _sample(kept: Mapping[str, list[Row]], policy: CurationPolicy) -> tuple[dict[str, str], ...]:
    """A few rows, evenly spread over the training files, masked and cut for display."""
    rows = [(name, row) for name in sorted(policy.training_files) for row in kept.get(name, [])]
    rows = rows or [(name, row) for name, found in kept.items() for row in found]
    count = min(SAMPLE_ROWS, len(rows))
    chosen = [rows[index * len(rows) // count] for index in range(count)]
    return tuple(
        {"file": name, "line": str(row.line), "prompt": _shown(row.prompt), "response": _shown(row.response)}
        for name, row in chosen
    )


def _shown(text: str) -> str:
    return mask_all(text)[:SHOWN_CHARACTERS]
