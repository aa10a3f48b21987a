"""YAML from strangers: bounded, without surprises, every refusal an InputError that names the line."""

import json
import math
import time
from datetime import date

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmops_core.errors import InputError, Problem
from llmops_core.strict_yaml import LIMIT_BYTES, LIMIT_DEPTH, LIMIT_NODES, LIMIT_PROBLEMS, load, plain_value

YAML_CHARACTERS = "ab01.:-+_~=<!&*|>%@`'\"#,?{}[] \n\t\\exyno"


def problems(text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        load(text.encode() if isinstance(text, str) else text, "model.yaml")
    assert all(problem.file == "model.yaml" for problem in caught.value.problems)
    return caught.value.problems


def only(text: str | bytes) -> Problem:
    (problem,) = problems(text)
    return problem


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(b"\xff\xfea\x00")
@example(b"%YAML 1.1\n---\na: b")
@example(b"a: '\\ud800'")
@example(b'a: "\\ud800"')
@example(b'a: "\\UFFFFFFFF"')
@example(b"%YAML " + b"9" * 5000 + b".1\n---\na: 1")
def test_arbitrary_bytes_crash_nothing(content):
    try:
        load(content, "x")
    except InputError as error:
        assert error.problems


@settings(max_examples=500, deadline=None)
@given(st.text(YAML_CHARACTERS, max_size=60))
def test_what_is_accepted_is_never_another_value_for_another_reader(text):
    """Differential test with PyYAML: where both read a file, types may differ only where the docstring says so."""
    try:
        ours = load(text.encode(), "x").mapping
        theirs = yaml.safe_load(text)
    except (InputError, yaml.YAMLError):
        return
    assert_same(ours, theirs)


def assert_same(ours, theirs):
    if isinstance(ours, dict):
        assert list(ours) == [str(key) for key in theirs]
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, date):
        assert isinstance(ours, str)
    elif isinstance(ours, float):
        assert float(theirs) == ours  # 1e4 is text for YAML 1.1, a number for YAML 1.2
    else:
        assert type(ours) is type(theirs) and ours == theirs


VISIBLE = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp", "Cn", "Co"], exclude_characters="\ufffc\ufffd"),
    max_size=20,
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | VISIBLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(VISIBLE, inner, max_size=4),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.dictionaries(VISIBLE, VALUES, min_size=1, max_size=5))
def test_what_other_programs_write_is_read_back(value):
    assert load(json.dumps(value, ensure_ascii=False).encode(), "x").mapping == value


PLAIN = VISIBLE.filter(lambda text: plain_value(text) == text)  # PyYAML writes the texts y and 1e4 without quotes


@settings(deadline=None)
@given(st.dictionaries(PLAIN, PLAIN | st.integers(-(10**17), 10**17) | st.lists(PLAIN), min_size=1, max_size=5))
def test_what_pyyaml_writes_is_read_back(value):
    assert load(yaml.safe_dump(value, allow_unicode=True).encode(), "x").mapping == value


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("null", None), ("~", None), ("", None), ("true", True), ("False", False), ("0", 0), ("-12", -12), ("+7", 7)),
        *(("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("1e-4", 1e-4), ("2E+3", 2000.0), ("-0.0", -0.0)),
        *(
            ("2026-11-21", "2026-11-21"),
            ("1.0.0", "1.0.0"),
            ("'yes'", "yes"),
            ('"010"', "010"),
            ("yesterday", "yesterday"),
        ),
        ("999999999999999999", 999999999999999999),
    ],
)
def test_plain_scalars_mean_what_the_docstring_says(written, meant):
    value = load(f"a: {written}".encode(), "x").mapping["a"]
    assert type(value) is type(meant) and value == meant


@pytest.mark.parametrize(
    "trap",
    [
        *("yes", "No", "ON", "off", "y", "N", "010", "-07", "0o10", "0x1F", "0b11", "1_000", "1_0.5", "1:30"),
        *("12:30:45.5", ".inf", "-.INF", ".nan", "1e999", "9" * 19, "0_1", "007.5"),
    ],
)
def test_what_readers_disagree_on_must_be_written_otherwise(trap):
    problem = only(f"a: 1\nb: {trap}\n")
    assert problem.field == "b" and problem.message.startswith("line 2: ") and trap in problem.found
    assert load(f"b: '{trap}'".encode(), "x").mapping == {"b": trap}
    assert "quotes" in problem.expected


def test_a_norwegian_key_is_refused_too():
    assert "no" in only("no: 1").found


def test_aliases_cannot_bomb():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    started = time.monotonic()
    found = problems(bomb)
    assert time.monotonic() - started < 1
    assert len(found) == LIMIT_PROBLEMS and "anchors are not allowed" in found[0].message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_stopped_at_the_limit(opening):
    depth = LIMIT_BYTES // len(opening) - 10
    started = time.monotonic()
    found = problems("a: " + opening * depth if opening in "[{a: " else opening * depth)
    assert time.monotonic() - started < 2
    assert found


def test_nesting_by_indentation_is_stopped_at_the_limit():
    deep = "".join(f"{' ' * level}a:\n" for level in range(LIMIT_DEPTH + 1)) + " " * (LIMIT_DEPTH + 1) + "b: 1\n"
    assert "levels" in problems(deep)[-1].found
    shallow = "".join(f"{' ' * level}a:\n" for level in range(LIMIT_DEPTH - 1)) + " " * LIMIT_DEPTH + "b: 1\n"
    load(shallow.encode(), "x")


def test_too_many_values_and_bytes_are_refused():
    assert "values" in only("a: [" + "1," * LIMIT_NODES + "]").found
    assert only(b"#" * (LIMIT_BYTES + 1)).found == f"{LIMIT_BYTES + 1} bytes"


@pytest.mark.parametrize(
    ("text", "field", "line", "words"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\n", "b.c", 4, "stands in line 3"),
        ("a: !!python/object/apply:os.system [id]\n", "a", 1, "tags are not allowed"),
        ("a: !x b\n", "a", 1, "tags are not allowed"),
        ("!!map\na: 1\n", "", 1, "tags are not allowed"),
        ("a: &x 1\n", "a", 1, "anchors are not allowed"),
        ("a: [1]\n&k b: 2\n", "", 2, "anchors are not allowed"),
        ("<<: {a: 1}\n", "", 1, "write the fields out"),
        ("a: 1\n---\nb: 2\n", "", 2, "remove the line ---"),
        ("%YAML 1.2\n---\na: 1\n", "", 1, "starts with %"),
        ("a: 1\n2: b\n", "", 2, "put the key in quotes"),
        ("? [a, b]\n: 1\n", "", 1, "plain name before the colon"),
        ("- a\n- b\n", "", 1, "write `field: value` lines"),
        ("just text\n", "", 1, "write `field: value` lines"),
        ("", "", 1, "holds nothing"),
        ("# only a comment\n", "", 1, "holds nothing"),
        ("a: [1, 2\nb: 3\n", "", 2, "correct the line"),
        ("a:\tb: c\n", "", 1, "correct the line"),
        ('a: "x\\0y"\n', "a", 1, "cannot see"),
        ('a: "x\\u202Ey"\n', "a", 1, "cannot see"),
    ],
)
def test_each_trick_has_a_clear_error(text, field, line, words):
    problem = problems(text)[0]
    assert problem.field == field
    assert problem.message.startswith(f"line {line}: ") and words in problem.message
    assert problem.found and problem.expected


@pytest.mark.parametrize(
    "hidden", ["\0", "\x07", "\x1b[2J", "\x7f", "\x85", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028"]
)
def test_characters_that_a_reviewer_cannot_see_are_refused(hidden):
    problem = only(f"a: 1\nb: x{hidden}y\n")
    assert problem.message.startswith("line 2: ") and problem.found.startswith("U+")


def test_text_that_is_not_utf8_names_byte_and_line():
    problem = only(b"a: 1\nb: caf\xe9\n")
    assert problem.found == "the byte 0xe9" and "line 2" in problem.message


def test_all_problems_come_at_once_and_a_long_value_is_cut():
    found = problems("a: yes\nb: 010\nc: &x 1\nd: *" + "z" * 500 + "\n")
    assert [problem.field for problem in found] == ["a", "b", "c", "d"]
    assert max(len(problem.found) for problem in found) < 100


def test_an_ambiguous_secret_is_not_shown():
    assert "0123" not in str(only("password: 0123"))


def test_every_field_knows_its_line():
    document = load(b"a: 1\nb:\n  c:\n  - x\n  -\n    d: 2\ne: {f: 3}\n", "x")
    assert document.lines == {
        **{(): 1, ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 4, ("b", "c", 1): 6},
        **{("b", "c", 1, "d"): 6, ("e",): 7, ("e", "f"): 7},
    }
    assert math.isclose(document.mapping["e"]["f"], 3)
