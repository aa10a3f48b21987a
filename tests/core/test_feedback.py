"""Ratings into rows: nobody's exam is learnt, nobody is outvoted, and no rating is lost without a reason."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.dataset import CurationPolicy, curate
from llmops_core.feedback import CuratedFeedback, Row, curate_feedback, judge_feedback, known_rows, question_key
from llmops_core.ratings import Rating
from llmops_core.verdict import Verdict

TRAIN = [{"prompt": "What is known?", "response": "this"}]
TEST = [{"prompt": "What is asked in the exam?", "response": "secret"}]
KNOWN = known_rows([("train.jsonl", TRAIN), ("test.jsonl", TEST)], {"train.jsonl"})


def curated(*ratings: Rating, pii: str = "refuse") -> CuratedFeedback:
    return curate_feedback(ratings, KNOWN, pii)  # type: ignore[arg-type]


def pairs(result: CuratedFeedback) -> list[tuple[str, str]]:
    return [(row["prompt"], row["response"]) for row in result.rows]


def outcomes(result: CuratedFeedback) -> dict[str, int]:
    found: dict[str, int] = {}
    for (outcome, _), count in result.counts.items():
        found[outcome] = found.get(outcome, 0) + count
    return found


def reason(result: CuratedFeedback) -> str:
    (case,) = result.cases
    return case.reason


def test_a_corrected_answer_was_not_learnt() -> None:
    result = curated(Rating("Q?", "wrong", 1, "right"))
    assert result.rows == ({"prompt": "Q?", "response": "right", "tags": ["feedback", "corrected"]},)
    assert result.counts == {("taken", "corrected"): 1}


def test_a_confirmed_answer_was_learnt_with_the_space_that_engines_put_before_it() -> None:
    result = curated(Rating(" Q?", " right\n", 4))
    assert result.rows == ({"prompt": "Q?", "response": "right", "tags": ["feedback", "confirmed"]},)


UNCLEAR = [
    (Rating("Q?", "wrong", 2), "what would be right is not known"),
    (Rating("Q?", "wrong", 1, " wrong"), "repeats the answer"),
    (Rating("Q?", "middling", 3), "neither low nor high"),
    (Rating("Q?", "middling", 3, "better"), "neither low nor high"),
    (Rating("Q?", "good", 5, "better"), "rated high, but corrected"),
    (Rating("Q?", " ", 5), "the answer is empty"),
]


@pytest.mark.parametrize(("rating", "told"), UNCLEAR)
def test_a_rating_that_does_not_say_what_is_right_became_a_row(rating: Rating, told: str) -> None:
    result = curated(rating)
    assert result.rows == () and outcomes(result) == {"held": 1} and told in reason(result)


def test_the_majority_outvoted_the_one_who_knew() -> None:
    many = [Rating("What is it?", "common error", 5)] * 10
    result = curated(*many, Rating("what is IT", "common error", 1, "truth"))
    assert result.rows == () and outcomes(result) == {"held": 11}
    assert result.cases[0].answers == ("common error", "truth") and "different answers" in reason(result)


def test_an_answer_that_somebody_rejects_became_a_row() -> None:
    result = curated(Rating("Q?", "one", 5), Rating("Q", "one", 1))
    assert result.rows == () and outcomes(result) == {"held": 2}
    assert ("held", "one person rejects the answer that another gives") in result.counts


def test_a_hesitant_correction_had_no_voice_against_a_row() -> None:
    assert curated(Rating("Q?", "one", 5), Rating("Q?", "one", 3, "two")).rows == ()


def test_people_who_agree_gave_two_rows_or_none() -> None:
    result = curated(Rating("q", "no", 1, "Yes"), Rating("Q?", " Yes", 5), Rating("Q ?", "Yes ", 4))
    assert result.rows == ({"prompt": "Q ?", "response": "Yes", "tags": ["feedback", "confirmed", "corrected"]},)
    assert outcomes(result) == {"taken": 1, "duplicate": 2}


@pytest.mark.parametrize(
    "question", ["What is asked in the exam?", "what  is asked in the EXAM", "Ｗhat is asked in the exam?!"]
)
@pytest.mark.parametrize("rating", [Rating("", "secret", 5), Rating("", "no", 1, "secret"), Rating("", "no", 1)])
def test_a_question_of_an_evaluation_was_learnt(question: str, rating: Rating) -> None:
    result = curated(Rating(question, rating.answer, rating.rating, rating.correction))
    assert result.rows == () and outcomes(result) == {"refused": 1}
    assert reason(result) == "test.jsonl asks it: a model must not learn its exam"


def test_questions_of_marks_alone_were_one_question() -> None:
    assert len(curated(Rating("?", "what", 5), Rating("!", "hurry", 5)).rows) == 2


def test_a_row_of_the_training_data_came_again() -> None:
    result = curated(Rating("what is known", " this", 5))
    assert result.rows == () and result.counts == {("known", "the training data has it"): 1}


def test_a_row_that_contradicts_the_training_data_was_put_beside_it() -> None:
    result = curated(Rating("What is known?", "this", 1, "that"))
    assert result.rows == () and outcomes(result) == {"held": 1} and "answers it otherwise" in reason(result)


def test_personal_data_was_learnt_or_shown() -> None:
    rating = Rating("Who is the chief?", "nobody", 1, "ada@analytical-engine.org")
    result = curated(rating)
    assert result.rows == () and reason(result) == "it holds personal data: e-mail"
    assert "ada@analytical-engine.org" not in json.dumps(result.as_dict())
    reported = curated(rating, pii="report")
    assert pairs(reported) == [("Who is the chief?", "ada@analytical-engine.org")]
    assert reported.personal_data == {"e-mail": 1}
    assert "ada@analytical-engine.org" not in json.dumps(reported.as_dict())


def test_versions_were_mixed_or_guesses_passed_for_knowledge() -> None:
    rated = [("10", 5, False), ("9", 1, True), ("9", 2, False), ("9", 5, False)]
    result = curated(*(Rating("Q?", "a", stars, version=v, digest="d", assumed=a) for v, stars, a in rated))
    shown = [(v.version, v.ratings, v.mean, v.low, v.high, v.assumed) for v in result.versions]
    assert shown == [("9", 3, pytest.approx(8 / 3), 2, 1, 1), ("10", 1, 5.0, 0, 1, 0)]


def test_no_ratings_or_none_that_help_were_a_pass() -> None:
    assert judge_feedback(curated()).verdict is Verdict.ERROR
    assert judge_feedback(curated(Rating("Q?", "a", 3))).verdict is Verdict.INCONCLUSIVE
    assert judge_feedback(curated(Rating("Q?", "a", 5))).verdict is Verdict.PASSED


QUESTIONS = st.sampled_from(
    [
        "What is known?",
        "what is KNOWN",
        "What is asked in the exam?",
        "what is asked in the exam",
        "Why?",
        "why",
        "?",
        "!",
    ]
)
TEXTS = st.sampled_from(["this", " this", "that", "T\u0301his", "", "ada@analytical-engine.org", "8.8.4.4"])
RATINGS = st.lists(
    st.builds(Rating, QUESTIONS, TEXTS, st.integers(1, 5), TEXTS, st.sampled_from(["1", "2", "10"]), st.just("d")),
    max_size=12,
)


@given(RATINGS, st.randoms(use_true_random=False))
def test_the_order_of_ratings_mattered(ratings: list[Rating], random) -> None:
    mixed = list(ratings)
    random.shuffle(mixed)
    assert curated(*mixed) == curated(*ratings)


@given(RATINGS)
def test_a_rating_was_lost_or_counted_twice(ratings: list[Rating]) -> None:
    result = curated(*ratings)
    assert sum(result.counts.values()) == len(ratings) == sum(version.ratings for version in result.versions)
    assert outcomes(result).get("taken", 0) == len(result.rows)


@given(RATINGS)
def test_saying_it_again_gave_other_rows(ratings: list[Rating]) -> None:
    assert curated(*ratings, *ratings).rows == curated(*ratings).rows


@given(RATINGS)
def test_rows_that_were_taken_into_the_dataset_came_again(ratings: list[Rating]) -> None:
    first = curated(*ratings)
    known = known_rows([("train.jsonl", [*TRAIN, *first.rows]), ("test.jsonl", TEST)], {"train.jsonl"})
    again = curate_feedback(ratings, known)
    assert again.rows == ()
    assert outcomes(again).get("held", 0) == outcomes(first).get("held", 0)


@given(RATINGS)
def test_an_exam_or_personal_data_or_a_row_that_the_dataset_refuses_passed(ratings: list[Rating]) -> None:
    rows = curated(*ratings).rows
    assert not {question_key(row["prompt"]) for row in rows} & KNOWN.exams.keys()
    files = {"train.jsonl": _lines([*TRAIN, *rows]), "test.jsonl": _lines(TEST)}
    report = curate(files, CurationPolicy(frozenset({"train.jsonl"}))).report
    assert report.files["train.jsonl"].conflicts == report.files["train.jsonl"].duplicates_dropped == 0


def _lines(rows: Sequence[Row]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]
