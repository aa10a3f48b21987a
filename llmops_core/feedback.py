"""From ratings of answers to rows for the next version of the dataset, and a reason for every rating that gives none.

A rating is a claim by somebody unknown, and a training row is a claim that the model will repeat to everybody. So a
rating becomes a row only where it says what is right and nobody who was asked says otherwise:

- rated low with a correction: the question with the correction. Rated high without one: the question with the answer.
  Every other rating is held: that an answer is bad does not tell what would be good.
- Questions, not ratings, are judged, because people disagree about questions. All that anybody gives as right, and all
  that anybody rejects, is gathered; a row exists if exactly one answer is given and nobody rejects it. There is no
  majority: ten mistaken clicks must not outvote the one person who knew, so disagreement is held for a person.
- A question that an evaluation asks is refused whatever its rating: a model that learns its exam passes it without
  being better. Questions are compared without case, width and the marks around them, a little more widely than the
  dataset's own check does: a row that is refused too much costs little. A paraphrase is not found this way.
- What the training data already answers so is known. What it answers otherwise is held: beside the old row the new one
  would only contradict it.
- Personal data is refused where the model's policy says so.

The result depends on which ratings there are, not on their order: questions are judged in the order of their texts, and
of several spellings of one row the first in that order is kept. Every rating is counted in exactly one case.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llmops_core.dataset_rows import same_question, same_text
from llmops_core.personal_data import find, mask_all
from llmops_core.ratings import Rating
from llmops_core.verdict import Finding, Verdict

LOW, HIGH = 2, 4  # of 1 to 5: at or below the one an answer is rejected, at or above the other it is right
TAG = "feedback"
SHOWN_CHARACTERS = 500
_MARKS = " .?!,;:¿¡。、\"'“”„‘’«»"

Outcome = Literal["taken", "duplicate", "known", "held", "refused"]
Row = dict[str, Any]


@dataclass(frozen=True)
class KnownRows:
    """What the current dataset holds: {question: file} that it examines with, {question: answers} that it teaches."""

    exams: Mapping[str, str]
    taught: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Case:
    """What became of so many ratings of one question, and why. Texts are masked and cut: people look at them."""

    question: str
    outcome: Outcome
    reason: str
    ratings: int
    answers: tuple[str, ...]


@dataclass(frozen=True)
class VersionRatings:
    """How one version was rated; of `ratings`, so many are `assumed` to be its own because it served at that time."""

    version: str
    digest: str
    ratings: int
    mean: float
    low: int
    high: int
    assumed: int


@dataclass(frozen=True)
class CuratedFeedback:
    """`rows` have the dataset's shape; `personal_data` counts, by kind, what the policy let pass in them."""

    rows: tuple[Row, ...]
    cases: tuple[Case, ...]
    versions: tuple[VersionRatings, ...]
    personal_data: dict[str, int]

    @property
    def counts(self) -> dict[tuple[Outcome, str], int]:
        """{(outcome, reason): ratings}; together they are all ratings."""
        counts: Counter[tuple[Outcome, str]] = Counter()
        for case in self.cases:
            counts[case.outcome, case.reason] += case.ratings
        return dict(sorted(counts.items()))

    def as_dict(self) -> dict[str, Any]:
        """For report.json; the rows themselves stand in a file of their own."""
        counts = [{"outcome": o, "reason": r, "ratings": count} for (o, r), count in self.counts.items()]
        cases, versions = ([asdict(each) for each in several] for several in (self.cases, self.versions))
        shown = {"rows": len(self.rows), "counts": counts, "versions": versions, "cases": cases}
        return {**shown, "personal_data": self.personal_data}


def known_rows(files: Iterable[tuple[str, Iterable[Mapping[str, Any]]]], learnt_from: Collection[str]) -> KnownRows:
    """From the dataset's rows as (file, rows); every file that is not learnt from examines."""
    exams: dict[str, str] = {}
    taught: defaultdict[str, set[str]] = defaultdict(set)
    for name, rows in files:
        for row in rows:
            key = question_key(row["prompt"])
            if name in learnt_from:
                taught[key].add(same_text(row["response"]))
            else:
                exams.setdefault(key, name)
    return KnownRows(exams, {key: frozenset(answers) for key, answers in taught.items()})


def question_key(text: str) -> str:
    """Equal for questions that ask the same; what consists of marks alone stays as it is."""
    key = same_question(text)
    return key.strip(_MARKS) or key


def curate_feedback(
    ratings: Iterable[Rating], known: KnownRows, personal_data: Literal["refuse", "report"] = "refuse"
) -> CuratedFeedback:
    """The rows that these ratings give beside what is known, and what became of each rating."""
    everything = sorted(ratings)
    by_question: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in everything:
        by_question[question_key(rating.question)].append(rating)
    rows: list[Row] = []
    cases: list[Case] = []
    passed: Counter[str] = Counter()
    for key, several in by_question.items():
        row, judged = _judge(several, known.exams.get(key), known.taught.get(key), personal_data)
        cases += judged
        if row is not None:
            rows.append(row)
            passed.update(_personal(row))
    return CuratedFeedback(tuple(rows), tuple(cases), _by_version(everything), dict(sorted(passed.items())))


def judge_feedback(curated: CuratedFeedback) -> Finding:
    """PASSED with rows, INCONCLUSIVE where ratings gave none, ERROR without ratings."""
    total, rows = sum(case.ratings for case in curated.cases), len(curated.rows)
    if not total:
        return Finding(TAG, Verdict.ERROR, "nobody has rated an answer", None)
    waiting = sum(case.ratings for case in curated.cases if case.outcome in ("held", "refused"))
    told = f"{total} ratings give {rows} new rows; {waiting} are held or refused"
    return Finding(TAG, Verdict.PASSED if rows else Verdict.INCONCLUSIVE, told, float(rows))


def _judge(
    ratings: Sequence[Rating], exam: str | None, taught: frozenset[str] | None, personal_data: str
) -> tuple[Row | None, list[Case]]:
    """All sorted ratings of one question: its row, if it gives one, and a case for each thing that became of them."""
    if exam is not None:
        return None, [_case(ratings, "refused", f"{exam} asks it: a model must not learn its exam")]
    unclear: defaultdict[str, list[Rating]] = defaultdict(list)
    clear: list[Rating] = []
    for rating in ratings:
        if reason := _unclear(rating):
            unclear[reason].append(rating)
        else:
            clear.append(rating)
    cases = [_case(several, "held", reason) for reason, several in sorted(unclear.items())]
    if not clear:
        return None, cases
    row = _row(clear)
    if obstacle := _obstacle(row, ratings, taught, personal_data):
        return None, [*cases, _case(clear, *obstacle)]
    cases.append(_case(clear[:1], "taken", " and ".join(row["tags"][1:])))
    if len(clear) > 1:
        cases.append(_case(clear[1:], "duplicate", "another rating gave the same row"))
    return row, cases


def _obstacle(
    row: Row, ratings: Iterable[Rating], taught: frozenset[str] | None, personal_data: str
) -> tuple[Outcome, str] | None:
    """What keeps a row out that some of its question's ratings give."""
    if reason := _disagreement(ratings):
        return "held", reason
    if personal_data == "refuse" and (kinds := sorted(set(_personal(row)))):
        return "refused", f"it holds personal data: {', '.join(kinds)}"
    if taught is None:
        return None
    if same_text(row["response"]) in taught:
        return "known", "the training data has it"
    return "held", "the training data answers it otherwise: mend that row, or keep it"


def _unclear(rating: Rating) -> str:
    """Why a rating does not say what is right; empty where it does."""
    if rating.rating <= LOW:
        if not rating.correction:
            return "rated low without a correction: what would be right is not known"
        if same_text(rating.correction) == same_text(rating.answer):
            return "rated low, but the correction repeats the answer"
        return ""
    if rating.rating < HIGH:
        return "rated neither low nor high"
    if rating.correction:
        return "rated high, but corrected"
    return "" if rating.answer.strip() else "rated high, but the answer is empty"


def _right(rating: Rating) -> str:
    """What this rating gives as right, if it gives anything."""
    return rating.correction or rating.answer


def _disagreement(ratings: Iterable[Rating]) -> str:
    """Whether people differ; those whose own rating is unclear have a voice here too."""
    given = {same_text(_right(each)) for each in ratings if each.correction or each.rating >= HIGH}
    rejected = {same_text(each.answer) for each in ratings if each.rating <= LOW}
    if len(given) > 1:
        return "people give different answers"
    return "one person rejects the answer that another gives" if given & rejected else ""


def _row(clear: Sequence[Rating]) -> Row:
    """One row for ratings that agree, in the first of its spellings; engines put a space before what they say."""
    prompt, response = min((each.question.strip(), _right(each).strip()) for each in clear)
    origins = {"corrected" if each.correction else "confirmed" for each in clear}
    return {"prompt": prompt, "response": response, "tags": [TAG, *sorted(origins)]}


def _personal(row: Row) -> list[str]:
    return [match.kind for match in find(f"{row['prompt']}\n{row['response']}")]


def _case(ratings: Sequence[Rating], outcome: Outcome, reason: str) -> Case:
    answers = sorted({_right(each).strip() for each in ratings})
    return Case(shown_text(ratings[0].question), outcome, reason, len(ratings), tuple(map(shown_text, answers)))


def shown_text(text: str) -> str:
    """For people's eyes: without personal data, and not too long."""
    return mask_all(text)[:SHOWN_CHARACTERS]


def _by_version(ratings: Iterable[Rating]) -> tuple[VersionRatings, ...]:
    """One entry for each version and weights, in the order of their numbers."""
    groups: defaultdict[tuple[int, str, str], list[Rating]] = defaultdict(list)
    for rating in ratings:
        groups[len(rating.version), rating.version, rating.digest].append(rating)
    return tuple(
        VersionRatings(
            version,
            digest,
            len(several),
            sum(each.rating for each in several) / len(several),
            sum(each.rating <= LOW for each in several),
            sum(each.rating >= HIGH for each in several),
            sum(each.assumed for each in several),
        )
        for (_, version, digest), several in sorted(groups.items())
    )
