"""The ledger under several writers, kills and hands that edit it."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from llmops_core.errors import IntegrityError
from llmops_core.facts import first_broken
from resources.ledger import SqlLedger


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.db'}"


def _write(address: str, writer: int) -> None:
    ledger = SqlLedger(address)
    for number in range(20):
        ledger.append("produced", model="atlas", subject="weights", body={"writer": writer, "number": number})


def test_concurrent_writers_lost_a_fact_or_broke_the_chain(tmp_path: Path) -> None:
    SqlLedger(url(tmp_path))
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(url(tmp_path), number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    facts = SqlLedger(url(tmp_path)).facts()
    assert len(facts) == 80
    assert first_broken(facts) is None
    for number in range(4):
        assert [f.body["number"] for f in facts if f.body["writer"] == number] == list(range(20))


def _pin(address: str, revision: int, answers: "multiprocessing.Queue[int]") -> None:
    fact = SqlLedger(address).append(
        "pinned", model="atlas", subject="run", body={"revision": revision}, once="pinned:run"
    )
    answers.put(fact.body["revision"])


def test_two_steps_of_one_run_pinned_two_revisions(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    steps = [context.Process(target=_pin, args=(url(tmp_path), number, answers)) for number in range(4)]
    for step in steps:
        step.start()
    seen = {answers.get(timeout=120) for _ in steps}
    for step in steps:
        step.join()
    assert len(seen) == 1
    assert len(SqlLedger(url(tmp_path)).facts()) == 1


def test_facts_changed_by_being_stored(tmp_path: Path) -> None:
    ledger = SqlLedger(url(tmp_path))
    body = {"text": "ünï ☃", "number": 0.1, "nested": {"list": [1, None, True]}}
    written = ledger.append("refused", model="a.b", subject="canary", fingerprint="ab", body=body)
    assert SqlLedger(url(tmp_path)).facts("a.b") == [written]
    assert ledger.facts("another") == []


def test_a_body_without_canonical_form_was_stored(tmp_path: Path) -> None:
    ledger = SqlLedger(url(tmp_path))
    with pytest.raises(TypeError):
        ledger.append("produced", model="atlas", subject="weights", body={"loss": float("nan")})
    assert ledger.facts() == []


def test_a_row_edited_in_the_database_was_not_noticed(tmp_path: Path) -> None:
    ledger = SqlLedger(url(tmp_path))
    for number in range(3):
        ledger.append("produced", model="atlas", subject="weights", body={"number": number})
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE facts SET body = '{\"number\": 7}' WHERE sequence = 2")
    broken = first_broken(ledger.facts())
    assert broken is not None and broken.sequence == 2


def test_an_unreadable_row_crashed_the_reader_without_saying_which(tmp_path: Path) -> None:
    ledger = SqlLedger(url(tmp_path))
    ledger.append("produced", model="atlas", subject="weights")
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE facts SET body = '{' WHERE sequence = 1")
    with pytest.raises(IntegrityError, match="line 1"):
        ledger.facts()
