"""Curation: what would make training or evaluation lie must stop it, with file, line and field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core import dataset
from llmops_core.dataset import LENGTH_EDGES, Curation, CurationPolicy
from llmops_core.errors import InputError
from llmops_core.verdict import Verdict

POLICY = CurationPolicy(training_files=frozenset({"train.jsonl"}))
REPORTING = CurationPolicy(training_files=frozenset({"train.jsonl"}), personal_data="report")


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def row(prompt: str, response: str = "answer", **more: object) -> dict[str, object]:
    return {"prompt": prompt, "response": response, **more}


def curate(files: dict[str, bytes], policy: CurationPolicy) -> Curation:
    return dataset.curate({name: content.splitlines() for name, content in files.items()}, policy)


def problems_of(content: bytes, policy: CurationPolicy = POLICY) -> list[str]:
    with pytest.raises(InputError) as error:
        curate({"train.jsonl": content}, policy)
    return [str(problem) for problem in error.value.problems]


def test_sound_rows_pass_through_unchanged():
    content = lines(row("Größe?", "zwei\nZeilen", tags=["a", "b"], source={"id": 3}), row("b", tags=["a"], group="new"))
    curation = curate({"train.jsonl": content, "test.jsonl": lines(row("c"))}, POLICY)
    assert lines(*curation.rows["train.jsonl"]) == content
    report = curation.report
    assert (report.rows, report.files["train.jsonl"].rows_read) == (3, 2)
    assert report.labels == {"tags": (("a", 2), ("b", 1)), "group": (("new", 1),)}
    assert sum(report.prompt_characters.counts) == sum(report.response_characters.counts) == 3
    assert json.loads(json.dumps(report.as_dict()))["rows"] == 3


@pytest.mark.parametrize(
    ("line", "where", "words"),
    [
        (b"\xff", "line 2", "0xff"),
        (b'{"prompt": "caf\xe9", "response": "b"}', "line 2", "not UTF-8"),
        (b"{", "line 2", "no JSON"),
        (b"", "line 2", "empty line"),
        (b"3", "line 2", "found a number"),
        (b"[1]", "line 2", "found a list"),
        (b"null", "line 2", "found null"),
        (b'{"prompt": "a", "prompt": "b", "response": "c"}', "line 2", "twice"),
        (b'{"prompt": "a", "response": "b", "weight": NaN}', "line 2", "no JSON number"),
        (b'{"prompt": "a"}', "line 2: response", "missing"),
        (b'{"prompt": 3, "response": "b"}', "line 2: prompt", "found a number"),
        (b'{"prompt": {}, "response": "b"}', "line 2: prompt", "found an object"),
        (b'{"prompt": "a", "response": true}', "line 2: response", "found a boolean"),
        (b'{"prompt": " \\n", "response": "b"}', "line 2: prompt", "empty"),
        (b'{"prompt": "a\\u0007", "response": "b"}', "line 2", "U+0007"),
        (b'{"prompt": "a", "response": "\\ud800"}', "line 2", "U+D800"),
        (b'{"prompt": "a", "response": "b", "more": {"x": ["\\u0000"]}}', "line 2", "U+0000"),
        (b'{"prompt": "a", "response": "b", "tags": "x"}', "line 2: tags", "found a text"),
        (b'{"prompt": "a", "response": "b", "tags": [1]}', "line 2: tags", "list of texts"),
        (b'\xef\xbb\xbf{"prompt": "a", "response": "b"}', "line 2", "no JSON"),
        (b"[" * 100_000, "line 2", "nested"),
        (b'{"prompt": "a", "response": "%s"}' % (b"x" * 32769), "line 2: response", "32769 characters"),
    ],
)
def test_a_bad_row_is_named_with_line_and_field(line, where, words):
    (problem,) = problems_of(lines(row("first")) + line + b"\n" + lines(row("last")))
    assert problem.startswith(f"train.jsonl: {where}: ")
    assert words in problem


def test_all_bad_rows_are_counted_and_the_first_ones_shown():
    found = problems_of(b"{}\n" * 30 + b"3\n" * 2)
    assert len(found) == 20 + 2 + 1
    assert "10 more rows" in found[-1]


@pytest.mark.parametrize("files", [{}, {"test.jsonl": b'{"prompt": "a", "response": "b"}'}])
def test_the_training_file_must_be_there(files):
    with pytest.raises(InputError, match="missing"):
        curate(files, POLICY)


@pytest.mark.parametrize("content", [b"", b"\n", b" \n"])
def test_an_empty_file_is_no_dataset(content):
    assert any("the file is empty" in problem for problem in problems_of(content))


def test_rows_that_say_the_same_count_once():
    content = lines(row("Café?", "x"), row("other"), row("Cafe\u0301? ", " x"), row("café?", "x"))
    curation = curate({"train.jsonl": content}, POLICY)
    assert [kept["prompt"] for kept in curation.rows["train.jsonl"]] == ["Café?", "other", "café?"]
    assert curation.report.files["train.jsonl"].duplicates_dropped == 1


def test_rows_that_contradict_each_other_are_kept_and_reported():
    curation = curate({"train.jsonl": lines(row("a", "1"), row("b"), row(" a", "2"))}, POLICY)
    assert curation.report.files["train.jsonl"].conflicts == 1
    assert curation.report.conflict_examples == (("train.jsonl", (1, 3)),)
    assert len(curation.rows["train.jsonl"]) == 3


def test_a_prompt_that_is_trained_and_judged_on_is_refused():
    files = {
        "train.jsonl": lines(row("x"), row("What is the  capital of Chad?")),
        "dev.jsonl": lines(row("what is the capital of CHAD?", "other words")),
        "test.jsonl": lines(row("y"), row("x")),
    }
    with pytest.raises(InputError) as error:
        curate(files, POLICY)
    found = [str(problem) for problem in error.value.problems]
    assert len(found) == 2
    assert "dev.jsonl: line 1: prompt" in found[0]
    assert "the prompt of train.jsonl line 2" in found[0]
    assert "test.jsonl: line 2: prompt" in found[1]


def test_two_training_files_may_share_prompts():
    policy = CurationPolicy(training_files=frozenset({"train.jsonl", "pretrain.jsonl"}))
    files = {"train.jsonl": lines(row("x")), "pretrain.jsonl": lines(row("x"))}
    assert curate(files, policy).report.rows == 2


SECRET = "4111 1111 1111 1111"


def test_personal_data_is_refused_without_being_repeated():
    (problem,) = problems_of(lines(row("a"), row("b", f"pay with {SECRET}")))
    assert "train.jsonl: line 2" in problem
    assert "card number" in problem
    assert "1111 1111" not in problem


def test_personal_data_is_reported_masked_when_the_policy_says_so():
    content = lines(row("b", f"pay with {SECRET}", note="ada@mail.engine.org", ids=[3, "8.8.4.4"]))
    report = curate({"train.jsonl": content}, REPORTING).report
    assert report.personal_data == {"card number": 1, "e-mail": 1, "IP address": 1}
    assert report.personal_examples[0][:3] == ("train.jsonl", 1, "card number")
    assert report.labels["ids"] == (("[IP address 8.… (7 characters)]", 1),)
    assert "1111 1111" not in json.dumps(report.as_dict())
    assert "pay with [card number 41…" in report.sample[0]["response"]


def test_the_sample_is_spread_over_the_training_file():
    files = {"train.jsonl": lines(*(row(str(n)) for n in range(1, 51))), "a.jsonl": lines(row("never"))}
    assert [shown["line"] for shown in curate(files, POLICY).report.sample] == ["1", "11", "21", "31", "41"]
    nothing_trained = CurationPolicy(training_files=frozenset())
    assert [shown["prompt"] for shown in curate({"a.jsonl": lines(row("only"))}, nothing_trained).report.sample] == [
        "only"
    ]


def test_lengths_fall_into_the_bucket_that_holds_them():
    content = lines(row("x" * 15), row("x" * 16), row("x" * 31), row("x" * LENGTH_EDGES[-1]))
    counts = curate({"train.jsonl": content}, POLICY).report.prompt_characters.counts
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (1, 2, 1, 4)


TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(
    lambda text: text.strip() and not set(text) & set("\ufeff\ufffe\uffff")
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
def test_curating_what_was_curated_changes_nothing(pairs):
    policy = CurationPolicy(training_files=frozenset({"train.jsonl"}), personal_data="report")
    once = curate({"train.jsonl": lines(*(row(a, b) for a, b in pairs))}, policy)
    content = lines(*once.rows["train.jsonl"])
    again = curate({"train.jsonl": content}, policy)
    assert lines(*again.rows["train.jsonl"]) == content
    assert again.report.files["train.jsonl"].duplicates_dropped == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_problems(content):
    try:
        rows = curate({"train.jsonl": content}, REPORTING).rows["train.jsonl"]
    except InputError as error:
        assert error.problems
    else:
        assert rows


def test_contradictions_were_not_judged_or_named():
    twice = lines(row("a", "one"), row("b", "two"), row("a", "three"))
    report = json.loads(json.dumps(curate({"train.jsonl": twice}, POLICY).report.as_dict()))
    finding = dataset.judge_conflicts(report)
    assert finding.verdict is Verdict.FAILED and "train.jsonl lines 1, 3" in finding.reason
    sound = curate({"train.jsonl": lines(row("a"))}, POLICY).report.as_dict()
    assert dataset.judge_conflicts(sound).verdict is Verdict.PASSED
    assert dataset.judge_conflicts({}).verdict is Verdict.ERROR


@pytest.mark.parametrize("copy", ["Which\u200b one?", "Wh\u00adich one?", "which one", "Which one?!", "Ｗhich one？"])
def test_a_question_of_the_exam_was_learnt_in_a_form_that_only_looks_the_same(copy):
    with pytest.raises(InputError, match="trained on"):
        curate({"train.jsonl": lines(row(copy)), "test.jsonl": lines(row("Which one?"))}, POLICY)


@pytest.mark.parametrize("other", ["What is C#?", "What is C++?", "???"])
def test_another_question_was_taken_for_that_of_the_exam(other):
    sound = curate({"train.jsonl": lines(row(other)), "test.jsonl": lines(row("What is C?"), row("?!?"))}, POLICY)
    assert sound.report.rows == 3


def test_a_text_that_reads_in_another_order_or_says_nothing_was_learnt():
    assert "U+202E" in problems_of(lines(row("a \u202eb")))[0]
    assert "empty" in problems_of(lines(row("a", "\u200b")))[0]


def test_a_contradiction_hid_behind_a_small_letter():
    hidden = curate({"train.jsonl": lines(row("Q?", "one"), row("q", "two"), row("Q", "one"))}, POLICY).report
    assert hidden.conflict_examples == (("train.jsonl", (1, 2, 3)),)
    assert curate({"train.jsonl": lines(row("Q?", "one"), row("q", "one"))}, POLICY).report.conflict_examples == ()
