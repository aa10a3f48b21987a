"""Reading what an evaluation wrote: a report of suites, and one prediction for each row.

Nothing is believed that does not add up: a suite whose predictions are more, fewer or other than its figures say is
not usable, and says why. An unusable suite is carried as text, because its place in the verdict is an ERROR, and an
evaluation that is partly readable still tells its reader about the rest.

The program that asks and marks comes with the revision that is judged. So its marks are not taken over: `marked` gives
each answer a mark of its own by the dataset, and a report that says something else does not add up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from llmops_core.fingerprint import digest_of

# Every metric is a share of rows answered rightly, which is what the intervals of `evaluation` are made for.
METRICS = frozenset({"exact_match"})


class SuiteResult(BaseModel):
    """One suite's figures: `correct` of `total` rows were right, and `errors` of them got no answer at all."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    name: str = Field(min_length=1)
    metric: str
    correct: int = Field(ge=0)
    total: int = Field(ge=0)
    errors: int = Field(ge=0)
    minimum: float = Field(ge=0, le=1, allow_inf_nan=False)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.metric not in METRICS:
            raise ValueError(f"the metric {self.metric!r} is not known (known: {', '.join(sorted(METRICS))})")
        if self.total == 0:
            raise ValueError("there are no rows, so nothing was measured")
        if self.correct + self.errors > self.total:
            raise ValueError(f"{self.correct} right and {self.errors} errors are more than {self.total} rows")
        return self


class Prediction(BaseModel):
    """Whether one row was answered rightly. `row` names the row by its content (a digest), the same for every model."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    suite: str = Field(min_length=1)
    row: str = Field(min_length=1)
    correct: bool


def row_id(prompt: str, response: str) -> str:
    """Names a row by its content, the same for every model that is asked."""
    return digest_of([prompt, response])[:16]


def exact_match(expected: str, answer: object) -> bool:
    """Equal but for blanks around: an answer follows its question after a blank."""
    return isinstance(answer, str) and answer.strip() == expected.strip()


def marked(predictions: Iterable[object], asked: Mapping[str, Iterable[tuple[str, str]]]) -> list[object]:
    """The predictions with marks by `asked`, {suite: (prompt, response) of every row of the dataset}.

    A row that was left out is there as wrong; one that the dataset lacks is wrong, whatever it was marked.
    """
    right = {(suite, row_id(*row)): row[1] for suite, rows in asked.items() for row in rows}
    lines: list[object] = []
    for line in predictions:
        if not isinstance(line, dict):
            lines.append(line)  # `Evidence.read` says what is wrong with it
            continue
        told = cast(dict[str, Any], line)
        response = right.pop((str(told.get("suite")), str(told.get("row"))), None)
        correct = response is not None and exact_match(response, told.get("answer"))
        lines.append({**told, "correct": correct})
    return [*lines, *({"suite": suite, "row": row, "correct": False} for suite, row in sorted(right))]


@dataclass(frozen=True)
class Evidence:
    """`suites`: the usable ones by name. `unusable`: why not, by name, of the others. `rows`: right or not, by row."""

    suites: Mapping[str, SuiteResult]
    unusable: Mapping[str, str]
    rows: Mapping[str, Mapping[str, bool]]

    @classmethod
    def read(cls, report: object, predictions: Iterable[object]) -> "Evidence":
        """From the parsed JSON of report.json and of each line of predictions.jsonl."""
        suites: dict[str, SuiteResult] = {}
        unusable: dict[str, str] = {}
        for index, raw in enumerate(_suites_of(report, unusable)):
            name = _name_of(raw, index)
            try:
                if name in suites or name in unusable:
                    raise ValueError("two suites of the report have this name")
                suites[name] = SuiteResult.model_validate(raw)
            except ValueError as error:
                suites.pop(name, None)
                unusable[name] = _told(error)
        rows = _read_rows(predictions, unusable)
        for name in rows.keys() - suites.keys() - unusable.keys():
            unusable[name] = "there are predictions, but no figures in the report"
        for name, suite in suites.items():
            mismatch = _mismatch(suite, rows.get(name, {}))
            if mismatch and name not in unusable:
                unusable[name] = mismatch
        usable = {name: suite for name, suite in suites.items() if name not in unusable}
        return cls(usable, unusable, rows)

    def why_missing(self, name: str) -> str:
        """Why a suite is not among the usable ones."""
        return self.unusable.get(name) or self.unusable.get("report") or "the suite was not run"


def _suites_of(report: object, unusable: dict[str, str]) -> list[object]:
    try:
        listed = TypeAdapter(_Report).validate_python(report).suites
    except ValidationError as error:
        unusable["report"] = _told(error)
        return []
    if not listed:
        unusable["report"] = "it has no suites, so nothing was measured"
    return listed


class _Report(BaseModel):
    suites: Annotated[list[object], Field(strict=True)]


def _name_of(raw: object, index: int) -> str:
    try:
        return TypeAdapter(_Named).validate_python(raw).name
    except ValidationError:
        return f"suites[{index}]"


class _Named(BaseModel):
    name: Annotated[str, Field(strict=True, min_length=1)]


def _read_rows(predictions: Iterable[object], unusable: dict[str, str]) -> dict[str, dict[str, bool]]:
    rows: dict[str, dict[str, bool]] = {}
    for number, raw in enumerate(predictions, start=1):
        try:
            prediction = Prediction.model_validate(raw)
        except ValidationError as error:
            unusable["predictions"] = f"line {number}: {_told(error)}"
            continue
        suite = rows.setdefault(prediction.suite, {})
        if prediction.row in suite:
            unusable[prediction.suite] = f"the row {prediction.row} was predicted twice"
        suite[prediction.row] = prediction.correct
    return rows


def _mismatch(suite: SuiteResult, rows: Mapping[str, bool]) -> str:
    found = (sum(rows.values()), len(rows))
    if found == (suite.correct, suite.total):
        return ""
    return f"the report says {suite.correct} of {suite.total} right, its predictions {found[0]} of {found[1]}"


def _told(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problems = [(".".join(str(part) for part in each["loc"]), each["msg"]) for each in error.errors(include_url=False)]
    return "; ".join(f"{where}: {what}" if where else what for where, what in problems)
