"""Arriving files: no half one is taken, no row twice, no exam learnt, and the order in which they came is nothing."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.arrivals import (
    BATCH_FILES,
    Arrived,
    Judged,
    Look,
    Sorting,
    batch_of,
    digest_of_contents,
    judge_arrivals,
    new_version,
    sort_out,
)
from llmops_core.dataset import CurationPolicy, curate
from llmops_core.feedback import curate_feedback, known_rows
from llmops_core.ratings import Rating

TRAIN = [{"prompt": "What is known?", "response": "this"}]
TEST = [{"prompt": "What is asked in the exam?", "response": "secret"}]
KNOWN = known_rows([("train.jsonl", TRAIN), ("test.jsonl", TEST)], {"train.jsonl"})


def lines(*pairs: tuple[str, str]) -> bytes:
    return "".join(json.dumps({"prompt": q, "response": a}, ensure_ascii=False) + "\n" for q, a in pairs).encode()


def arrived(name: str, content: bytes) -> Arrived:
    return Arrived(name, "1", hashlib.sha256(content).hexdigest(), content)


def judged(pii: Any = "refuse", **files: bytes) -> Judged:
    return judge_arrivals([arrived(f"{name}.jsonl", content) for name, content in files.items()], KNOWN, pii)


def pairs(result: Judged) -> list[tuple[str, str]]:
    return [(row["prompt"], row["response"]) for row in result.rows]


def looked(listed: Mapping[str, str], before: Sorting | None, now: float) -> Sorting:
    return sort_out(listed, before.looks if before else {}, now, 30)


def test_a_file_was_taken_at_its_first_look_or_never() -> None:
    first = looked({"a.jsonl": "1"}, None, 100)
    assert (first.whole, first.growing) == ({}, ("a.jsonl",))
    assert looked({"a.jsonl": "1"}, first, 129.9).whole == {}
    assert looked({"a.jsonl": "1"}, first, 130).whole == {"a.jsonl": "1"}


@given(st.lists(st.tuples(st.floats(0.1, 100), st.booleans()), min_size=1, max_size=30))
def test_a_file_was_taken_before_it_was_quiet_for_long_enough(looks: list[tuple[float, bool]]) -> None:
    """Between looks of any spacing a writer goes on or not; what is whole did not change since that long ago."""
    now, version, since, before = 0.0, 0, 0.0, None
    for pause, written in looks:
        now += pause
        if written or before is None:
            version, since = version + 1, now
        before = looked({"a.jsonl": str(version)}, before, now)
        assert ("a.jsonl" in before.whole) == (now - since >= 30)


def test_a_clock_that_was_set_back_let_a_file_wait_for_ever_or_took_it_at_once() -> None:
    back = looked({"a.jsonl": "1"}, Sorting({}, (), {}, {"a.jsonl": Look("1", 5000)}), 100)
    assert back.whole == {} and looked({"a.jsonl": "1"}, back, 130).whole


@pytest.mark.parametrize(
    "name", [".a.jsonl", "a.jsonl.part", "a.jsonl.PARTIAL", "a.jsonl.tmp", "a.jsonl.crdownload", "a.jsonl~", "~a.jsonl"]
)
def test_a_file_with_the_name_of_an_unfinished_one_was_taken(name: str) -> None:
    sorting = sort_out({name: "1"}, {name: Look("1", 0)}, 1000, 30)
    assert sorting.whole == {} and "still being written" in sorting.unfit[name]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a\n.jsonl", "../a.jsonl", "b/a.jsonl", "x" * 130 + ".jsonl"])
def test_a_file_of_another_kind_was_taken_or_ignored_in_silence(name: str) -> None:
    sorting = sort_out({name: "1"}, {name: Look("1", 0)}, 1000, 30)
    assert sorting.whole == {} and sorting.unfit[name]


def test_a_place_with_very_many_files_made_one_batch_without_end() -> None:
    whole = {f"{number:05d}.jsonl": "1" for number in range(BATCH_FILES + 5)}
    batch = batch_of(whole)
    assert len(batch) == BATCH_FILES and "00000.jsonl" in batch
    assert batch == batch_of(dict(reversed(whole.items())))


def test_rows_that_are_there_already_were_taken_again() -> None:
    result = judged(a=lines(("what is KNOWN", " this "), ("New?", "yes"), ("new", "yes")), b=lines(("New?", "yes")))
    assert pairs(result) == [("New?", "yes")]
    assert [(file.name, file.rows, file.new) for file in result.taken] == [("a.jsonl", 3, 1), ("b.jsonl", 1, 0)]


def test_a_row_lost_its_other_fields() -> None:
    row = {"prompt": "New?", "response": "yes", "tags": ["t"], "source": {"who": "ada"}}
    assert judged(a=json.dumps(row).encode()).rows == (row,)


REFUSED = [
    (lines(("ok?", "yes"), ("what is asked in the EXAM", "x")), "line 2: prompt", "a question of test.jsonl", "exam"),
    (lines(("What is known?", "that")), "line 1: prompt", "another answer than the data's", "otherwise"),
    (lines(("Q?", "a"), ("q", "b")), "line 2: prompt", "another answer than in line 1", "contradicts itself"),
    (lines(("Mail?", "ada@mail.org")), "line 1: prompt", "e-mail", "personal data"),
    (b'{"prompt": "Q?"}\n', "line 1: response", "nothing", "missing"),
    (lines(("ok?", "yes")) + b'{"prompt": "Q?", "resp', "line 2", "", "no JSON"),
    (b"", "", "an empty file", "empty"),
    (b"\xff\xfe\n", "line 1", "0xff", "UTF-8"),
]


@pytest.mark.parametrize(("content", "where", "found", "words"), REFUSED)
def test_a_bad_row_was_taken_or_refused_without_saying_where(
    content: bytes, where: str, found: str, words: str
) -> None:
    result = judged(bad=content, good=lines(("Other?", "yes")))
    (refused,) = result.refused
    (problem,) = refused.problems
    assert (problem.file, problem.field) == ("bad.jsonl", where)
    assert found in problem.found and problem.expected and words in problem.message
    assert pairs(result) == [("Other?", "yes")], "a good file suffers from a bad one, or holes are left in the bad one"


def test_personal_data_that_the_policy_lets_pass_was_not_counted() -> None:
    result = judged(a=lines(("Mail?", "ada@mail.org")), pii="report")
    assert result.personal_data == 1 and not result.refused


def test_of_two_files_that_contradict_each_other_one_won() -> None:
    result = judged(a=lines(("Q?", "a"), ("Fine?", "yes")), b=lines(("q", "b")), c=lines(("Third?", "c")))
    assert [file.name for file in result.refused] == ["a.jsonl", "b.jsonl"]
    assert "b.jsonl line 1" in result.refused[0].problems[0].found
    assert "a.jsonl line 1" in result.refused[1].problems[0].found
    assert pairs(result) == [("Third?", "c")]


def test_a_file_that_is_refused_anyway_took_another_one_with_it() -> None:
    bad = lines(("Q?", "a"), ("What is known?", "that"))
    assert [file.name for file in judged(a=bad, b=lines(("Q?", "b"))).refused] == ["a.jsonl"]


QUESTIONS = st.sampled_from(["What is known?", "What is asked in the exam?", "one?", "ONE", "two?", "three?"])
CONTENTS = st.lists(st.tuples(QUESTIONS, st.sampled_from(["this", "yes", "no"])), max_size=4).map(lambda p: lines(*p))
BATCHES = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), CONTENTS, min_size=1)


@given(BATCHES, st.randoms(use_true_random=False))
def test_the_order_in_which_files_came_changed_the_rows(batch: dict[str, bytes], chance: Any) -> None:
    shuffled = {name: batch[name] for name in chance.sample(sorted(batch), len(batch))}
    assert judged(**shuffled) == judged(**batch)
    assert digest_of_contents(reversed(judged(**batch).taken)) == digest_of_contents(judged(**batch).taken)


@given(BATCHES)
def test_a_file_was_counted_twice_or_lost_and_what_was_taken_could_not_be_trained_on(batch: dict[str, bytes]) -> None:
    result = judged(**batch)
    names = [file.name for file in (*result.taken, *result.refused)]
    assert sorted(names) == sorted(f"{name}.jsonl" for name in batch)
    assert sum(file.new for file in result.taken) == len(result.rows)
    if result.rows:
        files = {"train.jsonl": lines(*[(r["prompt"], r["response"]) for r in TRAIN]).splitlines()}
        files["new.jsonl"] = new_version(b"", result.rows).splitlines()
        files["test.jsonl"] = lines(*[(r["prompt"], r["response"]) for r in TEST]).splitlines()
        report = curate(files, CurationPolicy(frozenset({"train.jsonl", "new.jsonl"}))).report
        assert report.files["new.jsonl"].conflicts == 0 and report.files["new.jsonl"].duplicates_dropped == 0


@given(BATCHES)
def test_what_was_taken_was_new_once_more(batch: dict[str, bytes]) -> None:
    rows = judged(**batch).rows
    known = known_rows([("train.jsonl", [*TRAIN, *rows]), ("test.jsonl", TEST)], {"train.jsonl"})
    again = judge_arrivals([arrived(f"{name}.jsonl", content) for name, content in batch.items()], known, "refuse")
    accepted = {file.name for file in judged(**batch).taken}
    assert not [file for file in again.taken if file.name in accepted and file.new]


def test_the_rows_that_were_there_were_rewritten_or_run_together() -> None:
    row = {"response": "é", "prompt": "Q?"}
    assert (
        new_version(b'{"b":1,  "a":2}', [row]) == b'{"b":1,  "a":2}\n' + '{"prompt": "Q?", "response": "é"}\n'.encode()
    )
    assert new_version(b"", []) == b""


def test_curated_feedback_could_not_be_put_into_a_watched_place() -> None:
    ratings = [Rating("Q?", "wrong", 1, "right"), Rating("Sure?", " yes", 5), Rating("Held?", "x", 1)]
    curated = curate_feedback(ratings, KNOWN, "refuse")
    content = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in curated.rows).encode()
    result = judged(curated=content)
    assert result.rows == curated.rows and len(result.rows) == 2
