"""What people read in a terminal of 80 columns: whole words, and nothing said ten times."""

from collections.abc import Callable, Iterator

import pytest

from llmops_assets.cli import status
from llmops_assets.cli.options import print_table
from llmops_core.status import SILENT, Blocked, ModelStatus, Serving
from tests.cli.conftest import Ended
from tests.fakes.git_with_data import GitWithData

Run = Callable[..., Ended]
WITHOUT_BORDERS = str.maketrans("│┃", "  ")
REASON = "it needs 1 GPU(s), and local has none; it needs 32 GB of memory, and local gives a replica 3 GB"
PATH = "/home/somebody/" + "a-rather-long-folder-name/" * 4


@pytest.fixture(params=[60, 80, 140])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("COLUMNS", str(request.param))
    yield request.param


def _words(text: str) -> set[str]:
    return set(text.translate(WITHOUT_BORDERS).split())


@pytest.mark.parametrize(
    "rows",
    [
        [("weights", "run", REASON)],
        [("dataset of evaluation, weights and base_weights", "verified", REASON)],
        [("weights", "broken", f"{PATH} is not what was made")],
    ],
)
def test_a_table_broke_words_or_was_wider_than_the_terminal(
    capsys: pytest.CaptureFixture[str], width: int, rows: list[tuple[str, ...]]
) -> None:
    print_table("Title", ("asset", "action", "reason"), rows)
    told = capsys.readouterr().out
    assert all(len(line) <= width for line in told.splitlines() if PATH not in line)
    assert {word for word in " ".join(rows[0]).split() if len(word) < 30} <= _words(told)


def test_a_model_that_cannot_be_tried_filled_the_screen(clone: GitWithData, llmops: Run) -> None:
    clone.commit_model(resources={"gpu_count": 1, "memory_gb": 8, "cpu": 1})
    told = llmops("plan").output
    assert told.count("1 GPU(s)") == 1 and told.startswith("tiny: skip all: local cannot run it")
    assert len(llmops("plan", "--json").json) == 10


def test_a_model_with_much_to_say_lost_a_line(llmops: Run) -> None:
    assert llmops("plan").output.count("nothing exists for") == 10


def test_a_status_was_wider_than_the_terminal_or_hid_what_does_not_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    url = "http://127.0.0.1:8600/models/llama-3.1-8b"
    one = Serving("12", "a" * 40, "b" * 64, SILENT, "llama-3.1-8b-production-v12", "2026-11-21", url, REASON)
    status._print([ModelStatus("llama-3.1-8b", {"production": one}, (Blocked("canary", REASON),))])
    told = capsys.readouterr().out
    assert all(len(line) <= 80 for line in told.splitlines())
    assert "│ not answering │" in told and url in told
    assert "llama-3.1-8b does not answer in production: it needs" in told and "held up at canary" in told
