"""`llmops feedback` on what people and programs send: strict, whole or not at all, and in words that help."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ended

Run = Callable[..., Ended]
RATED = ("--question", "Why?", "--answer", "so", "--rating", "5")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--question", "Why?"), "missing: --answer, --rating"),
        (("--question", "Why?", "--answer", "so", "--rating", "6"), "--rating"),
        (("--question", "Why?", "--answer", "so", "--rating", "good"), "--rating"),
        ((*RATED, "--file", "config/local.yaml"), "--file stands alone"),
        (("--file", "no-such-file"), "no-such-file"),
    ],
)
def test_a_wrong_use_was_guessed_at(llmops: Run, options: tuple[str, ...], told: str) -> None:
    ended = llmops("feedback", "tiny", *options)
    assert ended.exit_code == 64 and told in ended.errors


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--question", " ", *RATED[2:]), "line 1: question"),
        (("--question", "a\x1b[2J", *RATED[2:]), "line 1"),
        (("--question", "a\udcff", *RATED[2:]), "line 1"),
        ((*RATED, "--version", "1"), "line 1: version"),
        ((*RATED, "--version", "1", "--digest", "abc"), "line 1: digest"),
        ((*RATED, "--version", "1", "--digest", "d" * 64), "line 1: version"),
    ],
)
def test_a_rating_that_is_none_was_recorded(llmops: Run, tmp_path: Path, options: tuple[str, ...], field: str) -> None:
    ended = llmops("feedback", "tiny", *options, "--json")
    (problem,) = ended.json["problems"]
    assert ended.exit_code == 1 and (problem["file"], problem["field"]) == ("command line", field)
    assert not (tmp_path / "home" / "feedback").exists()


def test_a_file_with_a_wrong_line_was_taken_in_part(llmops: Run, tmp_path: Path) -> None:
    file = tmp_path / "ratings.jsonl"
    sound = {"question": "Why?", "answer": "so", "rating": 5}
    file.write_text("".join(json.dumps(line) + "\n" for line in (sound, {**sound, "rating": 9}, {**sound, "stars": 5})))
    ended = llmops("feedback", "tiny", "--file", str(file), "--json")
    assert ended.exit_code == 1
    assert [(each["file"], each["field"]) for each in ended.json["problems"]] == [
        (str(file), "line 2: rating"),
        (str(file), "line 3: stars"),
    ]
    assert not (tmp_path / "home" / "feedback").exists()


@pytest.mark.parametrize("model", ["tiny", "nobody", "../../etc"])
@pytest.mark.parametrize("options", [RATED, ()])
def test_feedback_about_what_does_not_serve_was_taken(
    llmops: Run, tmp_path: Path, model: str, options: tuple[str, ...]
) -> None:
    ended = llmops("feedback", model, *options)
    assert ended.exit_code == 1 and "does not serve in production" in ended.errors
    assert not (tmp_path / "home" / "feedback").exists()
