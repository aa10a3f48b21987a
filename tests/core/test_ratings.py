"""Ratings as anybody may write them: one meaning, no surprises, everything wrong told at once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core import ratings
from llmops_core.errors import InputError
from llmops_core.ratings import LIMIT_CHARACTERS, Rating, parse_ratings

SOUND = {"question": "Größe?", "answer": " zwei\nZeilen", "rating": 1, "correction": "eine"}
DIGEST = "d" * 64


def line(**changes: object) -> bytes:
    """A sound line with these changes; None takes a field out."""
    values = {name: value for name, value in {**SOUND, **changes}.items() if value is not None}
    return json.dumps(values, ensure_ascii=False).encode()


def problems_of(content: bytes) -> list[str]:
    with pytest.raises(InputError) as error:
        parse_ratings("ratings.jsonl", content)
    return [str(problem) for problem in error.value.problems]


def test_a_sound_rating_was_changed_by_being_read() -> None:
    content = line() + b"\n" + line(correction=None, version="2", digest=DIGEST) + b"\r\n"
    assert parse_ratings("ratings.jsonl", content) == (
        Rating("Größe?", " zwei\nZeilen", 1, "eine"),
        Rating("Größe?", " zwei\nZeilen", 1, version="2", digest=DIGEST),
    )


def test_an_answer_of_nothing_could_not_be_rated() -> None:
    (rating,) = parse_ratings("ratings.jsonl", line(answer=""))
    assert rating.answer == "" and rating.correction == "eine"


BAD = [
    (line(question=None), "line 1: question: the field is missing"),
    (line(question=" \n"), "line 1: question: the field is empty"),
    (line(question="x" * (LIMIT_CHARACTERS + 1)), "line 1: question: the text is too long"),
    (line(answer=" " * (LIMIT_CHARACTERS + 1)), "line 1: answer: the text is too long"),
    (line(answer=7), "line 1: answer: the field is no text (found a number"),
    (line(rating=None), "line 1: rating: the value is no rating (found nothing; expected a whole number from 1 to 5"),
    (line(rating=True), "line 1: rating"),
    (line(rating=0), "line 1: rating"),
    (line(rating=6), "line 1: rating"),
    (line(rating=4.0), "line 1: rating"),
    (line(rating="5"), "line 1: rating"),
    (line(correction=""), "line 1: correction: the field is empty"),
    (line().replace(b'"eine"', b"null"), "line 1: correction: the field is no text (found null"),
    (line(version="2"), "line 1: version: one of the two fields is missing"),
    (line(digest=DIGEST), "line 1: digest: one of the two fields is missing"),
    (line(version="2", digest="D" * 64), "line 1: digest: the value is no digest"),
    (line(version="2" * 65, digest=DIGEST), "line 1: version: the text is too long"),
    (line(version=2, digest=DIGEST), "line 1: version: the field is no text"),
    (line(assumed=True), "line 1: assumed: the field is unknown"),
    (line(**{"stars\x1b[2J": 5}), r"line 1: 'stars\x1b[2J': the field is unknown"),
    (line(answer="a\u200b\x07"), "found U+0007"),
    (line(answer="\x85"), "found U+0085"),
    (line().replace(b"eine", b"\\ud800"), "found U+D800"),
    (line().replace(b'"rating": 1', b'"rating": 1, "rating": 5'), "a key stands there twice"),
    (line().replace(b'"rating": 1', b'"rating": NaN'), "NaN is no JSON number"),
    (b"\xff\n", "the line is not UTF-8"),
    (b"[]\n", "write each line as an object"),
    (b"[" * 100_000, "line 1"),
    (line() + b"\n\n" + line(), "line 2: every line must hold a row"),
    (b"", "the file is empty"),
    (b" \n", "the file is empty"),
]


@pytest.mark.parametrize(("content", "told"), BAD, ids=range(len(BAD)))
def test_a_line_that_is_no_rating_was_taken(content: bytes, told: str) -> None:
    assert any(told in problem for problem in problems_of(content)), problems_of(content)


def test_a_file_with_one_wrong_line_was_taken_in_part() -> None:
    found = problems_of(b"\n".join([line(), line(rating=9), line(), line(answer=None)]))
    assert [problem.split(": ")[1] for problem in found] == ["line 2", "line 4"]


def test_a_huge_file_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratings, "LIMIT_BYTES", len(line()))
    assert len(parse_ratings("ratings.jsonl", line())) == 1
    assert "too large" in problems_of(line() + b"\n")[0]


@given(st.binary(max_size=200))
def test_any_bytes_are_ratings_or_problems(content: bytes) -> None:
    try:
        assert parse_ratings("ratings.jsonl", content)
    except InputError as error:
        assert error.problems
