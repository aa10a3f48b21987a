"""Ratings: what people say of the answers that a model gave them, as JSON Lines which anybody may have written.

    {"question": …, "answer": …, "rating": 1 to 5}   and, where they are known, "correction", "version" and "digest"

`version` and `digest` are what the answer's headers x-llmops-version and x-llmops-weights-digest said. The lines are
read as strictly as a dataset's rows, for that is what they may become: one meaning in every reader, no characters that
people cannot see, no field that nobody asked for. A file with one wrong line is refused as a whole, so that mending and
sending it again counts nothing twice.
"""

from dataclasses import asdict, dataclass
from typing import Any

from llmops_core.dataset_rows import Problems, Refused, check_text, kind_of, parse_lines
from llmops_core.errors import InputError, Problem
from llmops_core.fingerprint import is_digest
from llmops_core.showing import field_name, shown

FIELDS = ("question", "answer", "rating", "correction", "version", "digest")
LOWEST, HIGHEST = 1, 5
LIMIT_CHARACTERS = 32_768
LIMIT_VERSION_CHARACTERS = 64
LIMIT_BYTES = 64 * 2**20
PROBLEMS_SHOWN = 20


@dataclass(frozen=True, order=True)
class Rating:
    """One rating; an empty text where something was not said. `digest` is that of the weights which answered.

    `assumed` says that nobody kept the answer's headers: version and digest are those that served when it was recorded.
    """

    question: str
    answer: str
    rating: int
    correction: str = ""
    version: str = ""
    digest: str = ""
    assumed: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_ratings(name: str, content: bytes) -> tuple[Rating, ...]:
    """The ratings in a file, one for each line. Raises InputError with everything found wrong."""
    problems = Problems(PROBLEMS_SHOWN)
    if len(content) > LIMIT_BYTES:
        expected = f"at most {LIMIT_BYTES} bytes"
        raise InputError(Problem(name, "", "a larger file", expected, "the file is too large; send it in parts"))
    if not content.strip():
        problems.add(Problem(name, "", "an empty file", "at least one rating", "the file is empty"))
    lines = parse_lines(name, content.splitlines(), _check, problems)
    if found := problems.all():
        raise InputError(*found)
    return tuple(Rating(**line.values) for line in lines)


def _check(values: dict[str, Any]) -> None:
    for name in values:
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            raise Refused(field_name((name,)), kind_of(values[name]), f"one of: {known}", "the field is unknown")
    check_text(values, "question", LIMIT_CHARACTERS)
    check_text(values, "answer", LIMIT_CHARACTERS, may_be_blank=True)  # a model may have said nothing
    rating = values.get("rating")
    if type(rating) is not int or not LOWEST <= rating <= HIGHEST:
        raise Refused("rating", shown(rating), f"a whole number from {LOWEST} to {HIGHEST}", "the value is no rating")
    if "correction" in values:
        check_text(values, "correction", LIMIT_CHARACTERS)
    _check_answerer(values)


def _check_answerer(values: dict[str, Any]) -> None:
    """A version without its weights' digest could be any platform's, a digest alone names no version."""
    given = [name for name in ("version", "digest") if name in values]
    if not given:
        return
    if len(given) == 1:
        expected = "both version and digest, or neither"
        raise Refused(given[0], f"{given[0]} alone", expected, "one of the two fields is missing")
    check_text(values, "version", LIMIT_VERSION_CHARACTERS)
    if not is_digest(values["digest"]):
        raise Refused("digest", shown(values["digest"]), "64 lower-case hexadecimal digits", "the value is no digest")
