"""Files that arrive in a watched place: which are whole, and which of their rows make a new version of a dataset.

A writer announces nothing, so a file is whole when it kept its version (for a folder: size, times and inode; for a
bucket: ETag and time) between two looks at least `settle_seconds` apart, by our own clock, and its name is not one that
programs give to what they still write. A writer that pauses longer than that is found by its torn last line, or its
rows come in two versions of one file: rows that are there already are dropped, so nothing is taken twice.

Rows are held to what `llmops_core/feedback.py` holds ratings to: a question that an evaluation asks is not learnt, and
a question that the data answers otherwise is for a person. One bad row refuses its whole file, because a file with
holes would look taken. Two files of one batch that answer a question differently are both refused: which came first
must not decide. So the result depends on the files and not on the order in which they came.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from llmops_core.dataset_rows import Problems, Row, parse_rows, same_text, texts_of
from llmops_core.errors import Problem
from llmops_core.feedback import KnownRows, question_key
from llmops_core.fingerprint import digest_of
from llmops_core.personal_data import find
from llmops_core.tree_path import checked_path

BATCH_FILES = 200
LONGEST_NAME = 128
LONGEST_TEXT = 32768
PROBLEMS_SHOWN = 20
SUFFIX = ".jsonl"
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", "~")


@dataclass(frozen=True)
class Look:
    """Since when (seconds) a file has been seen in this version."""

    version: str
    since: float


@dataclass(frozen=True)
class Sorting:
    """All names of a listing: {name: version} of whole files, those that may still grow, {name: why it is no file of
    rows}; and the looks to remember."""

    whole: dict[str, str]
    growing: tuple[str, ...]
    unfit: dict[str, str]
    looks: dict[str, Look]


@dataclass(frozen=True)
class Arrived:
    """A whole file's bytes, with the SHA-256 of them."""

    name: str
    version: str
    sha256: str
    content: bytes


@dataclass(frozen=True)
class TakenFile:
    """What became of a file that was not refused: its rows, and how many of them were `new`."""

    name: str
    version: str
    sha256: str
    rows: int
    new: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RefusedFile:
    name: str
    version: str
    sha256: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Judged:
    """`rows` are new and in a stable order: by file name, then by line. `personal_data` counts what was let pass."""

    rows: tuple[dict[str, Any], ...]
    taken: tuple[TakenFile, ...]
    refused: tuple[RefusedFile, ...]
    personal_data: int


@dataclass
class _Read:
    file: Arrived
    rows: list[Row] = field(default_factory=list[Row])
    problems: list[Problem] = field(default_factory=list[Problem])


def sort_out(listed: Mapping[str, str], before: Mapping[str, Look], now: float, settle_seconds: float) -> Sorting:
    """Which of the listed files ({name: version}) are whole, with the looks of earlier times; `now` in seconds."""
    whole: dict[str, str] = {}
    growing: list[str] = []
    unfit: dict[str, str] = {}
    looks: dict[str, Look] = {}
    for name, version in sorted(listed.items()):
        if reason := _unfit(name):
            unfit[name] = reason
            continue
        known = before.get(name)
        if known is None or known.version != version or known.since > now:  # a clock that was set back proves nothing
            known = Look(version, now)
        looks[name] = known
        if now - known.since >= settle_seconds:
            whole[name] = version
        else:
            growing.append(name)
    return Sorting(whole, tuple(growing), unfit, looks)


def batch_of(whole: Mapping[str, str]) -> dict[str, str]:
    """The files to take at once: the first ones by name."""
    return dict(sorted(whole.items())[:BATCH_FILES])


def digest_of_contents(files: Iterable[TakenFile]) -> str:
    """One digest for the same contents, whatever their files are called and in whichever order they came."""
    return digest_of(sorted(file.sha256 for file in files))


def judge_arrivals(files: Iterable[Arrived], known: KnownRows, personal_data: Literal["refuse", "report"]) -> Judged:
    """The new rows of these files beside the dataset's, and what is wrong with the others."""
    read = [_judge_alone(file, known, personal_data) for file in sorted(files, key=lambda file: file.name)]
    _find_contradictions([each for each in read if not each.problems])
    rows: list[dict[str, Any]] = []
    taken: list[TakenFile] = []
    seen = {key: set(answers) for key, answers in known.taught.items()}
    passed = 0
    for each in (each for each in read if not each.problems):
        new = [row for row in each.rows if _is_new(row, seen)]
        passed += sum(len(_personal(row)) for row in new)
        rows += [row.values for row in new]
        taken.append(TakenFile(each.file.name, each.file.version, each.file.sha256, len(each.rows), len(new)))
    refused = [
        RefusedFile(each.file.name, each.file.version, each.file.sha256, tuple(each.problems))
        for each in read
        if each.problems
    ]
    return Judged(tuple(rows), tuple(taken), tuple(refused), passed)


def new_version(present: bytes, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The file as it is, byte for byte, and the new rows behind it, one on each line."""
    begun = present if not present or present.endswith(b"\n") else present + b"\n"
    return begun + "".join(f"{json.dumps(row, ensure_ascii=False, sort_keys=True)}\n" for row in rows).encode()


def _unfit(name: str) -> str:
    """Why a name is none of a file to take; empty for one that is."""
    lowered = name.lower()
    if name.startswith((".", "~")) or lowered.endswith(_UNFINISHED):
        return "still being written, by its name"
    try:
        plain = checked_path(name) == name and "/" not in name and len(name) <= LONGEST_NAME
    except ValueError:
        plain = False
    if not plain:
        return "its name cannot be shown or is too long; rename it"
    return "" if name.endswith(SUFFIX) else f"no {SUFFIX} file"


def _judge_alone(file: Arrived, known: KnownRows, personal_data: str) -> _Read:
    """One file beside the dataset: its rows, or everything that is wrong with them."""
    problems = Problems(PROBLEMS_SHOWN)
    if not file.content.strip():
        problems.add(Problem(file.name, "", "an empty file", "at least one row", "the file is empty"))
    rows = parse_rows(file.name, file.content.splitlines(), LONGEST_TEXT, problems)
    own: dict[str, Row] = {}
    for row in rows:
        for found, expected, message in _faults(row, own, known, personal_data):
            problems.add(Problem(file.name, f"line {row.line}: prompt", found, expected, message))
    return _Read(file, rows, problems.all())


def _faults(row: Row, own: dict[str, Row], known: KnownRows, personal_data: str) -> Iterable[tuple[str, str, str]]:
    """(found, expected, message) for each thing wrong with a row; `own` are the file's rows before it, by question."""
    key = question_key(row.prompt)
    if exam := known.exams.get(key):
        yield (
            f"a question of {exam}",
            "a question that no evaluation asks",
            "a model must not learn its exam; remove it",
        )
    first = own.setdefault(key, row)
    if same_text(first.response) != same_text(row.response):
        found = f"another answer than in line {first.line}"
        yield found, "one answer to each question", "the file contradicts itself; decide which is right"
    taught = known.taught.get(key)
    if taught is not None and same_text(row.response) not in taught:
        message = "the data answers it otherwise; mend that row, or remove this one"
        yield "another answer than the data's", "one answer to each question", message
    if personal_data == "refuse":
        for shown in _personal(row):
            yield shown, "no personal data", "the row holds personal data; remove it, or set data.pii to report"


def _personal(row: Row) -> list[str]:
    return [f"{match.kind} {match.masked}" for match in find("\n".join(texts_of(row.values)))]


def _find_contradictions(read: Sequence[_Read]) -> None:
    """Adds a problem to each of several files that answer one question differently."""
    given: defaultdict[str, list[tuple[_Read, Row]]] = defaultdict(list)
    for each in read:
        for key, row in {question_key(row.prompt): row for row in reversed(each.rows)}.items():
            given[key].append((each, row))
    for several in given.values():
        for each, row in several:
            others = [(o.file.name, r.line) for o, r in several if same_text(r.response) != same_text(row.response)]
            if others and len(each.problems) < PROBLEMS_SHOWN:
                found = f"another answer than in {others[0][0]} line {others[0][1]}"
                message = "two files that arrived together contradict each other; decide which is right"
                where = f"line {row.line}: prompt"
                each.problems.append(Problem(each.file.name, where, found, "one answer to each question", message))


def _is_new(row: Row, seen: dict[str, set[str]]) -> bool:
    """Whether nothing says so yet; from now on something does."""
    answers = seen.setdefault(question_key(row.prompt), set())
    answer = same_text(row.response)
    if answer in answers:
        return False
    answers.add(answer)
    return True
