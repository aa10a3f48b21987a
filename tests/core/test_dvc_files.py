"""DVC's files as an attacker or an older DVC would write them, and as DVC itself does."""

import contextlib
import hashlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmops_core import dvc_files
from llmops_core.dvc_files import (
    DataPointer,
    ListedFile,
    locate,
    parse_dvc_file,
    parse_dvc_lock,
    parse_listing,
    selected,
    stage_wdirs,
)
from llmops_core.errors import InputError, IntegrityError

MD5 = "0123456789abcdef0123456789abcdef"
DIGITS = "12345678901234567890123456789012"


def dvc_file(**fields: object) -> bytes:
    output = {"md5": MD5, "size": 3, "hash": "md5", "path": "data", **fields}
    return yaml.safe_dump({"outs": [{key: value for key, value in output.items() if value is not None}]}).encode()


def test_an_output_is_relative_to_its_file_and_working_folder():
    content = f"md5: {MD5}\nwdir: ../other\nouts:\n- {{md5: {MD5}.dir, nfiles: 2, hash: md5, path: d, remote: r}}\n"
    assert parse_dvc_file(content.encode(), "sub/x.dvc") == (
        DataPointer("other/d", f"{MD5}.dir", None, 2, "sub/x.dvc", "r"),
    )


def test_a_hash_that_looks_like_a_number_stays_text():
    content = f"outs:\n- {{md5: {DIGITS}, size: 1, hash: md5, path: 010}}\n".encode()
    assert parse_dvc_file(content, "x.dvc")[0] == DataPointer("010", DIGITS, 1, None, "x.dvc")


def test_outputs_that_stand_in_git_are_left_out():
    assert parse_dvc_file(dvc_file(cache=False), "x.dvc") == ()
    assert parse_dvc_file(b"deps: []\n", "x.dvc") == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "../../etc"},
        {"path": "/etc/passwd"},
        {"path": "s3://bucket/x"},
        {"path": ".."},
        {"path": "a\nb"},
        {"path": None},
        {"path": ["a"]},
        {"md5": "0"},
        {"md5": MD5.upper()},
        {"md5": "../../../etc/passwd"},
        {"md5": f"{MD5}\n"},
        {"md5": None},
        {"hash": None},
        {"hash": "md5-dos2unix"},
        {"size": -1},
        {"size": "many"},
        {"nfiles": [1]},
    ],
)
def test_outputs_that_cannot_be_trusted(fields):
    with pytest.raises(InputError, match=r"outs\[0\]"):
        parse_dvc_file(dvc_file(**fields), "sub/x.dvc")


def test_every_bad_output_is_named():
    content = yaml.safe_dump({"outs": [{"path": "a"}, {"path": "b", "hash": "md5", "md5": MD5}, {"path": "c"}]})
    with pytest.raises(InputError) as error:
        parse_dvc_file(content.encode(), "x.dvc")
    assert [problem.field for problem in error.value.problems] == ["outs[0]", "outs[2]"]


BOMB = b"a: &a [x, x]\nb: &b [*a, *a]\nouts: [*b, *b]\n"


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        b"outs: &a []\n",
        b"[" * 10_000,
        b"{a: " * 40 + b"1" + b"}" * 40,
        b"outs: []\nouts: []\n",
        b"? [a]\n: b\n",
        b"outs: []\n---\nouts: []\n",
        b"a\n---\nb\n---\nc\n",
        b"",
        b"- outs\n",
        b"text",
        b"outs: 3",
        b"\xff\xfe\x00",
        b"outs: [",
        b"wdir: !!python/object/apply:os.system [id]\n",
    ],
)
def test_yaml_that_is_no_dvc_file(content):
    with pytest.raises(InputError):
        parse_dvc_file(content if b"python" not in content else content + b"outs: [1]", "x.dvc")


def test_size_and_number_of_values_are_bounded(monkeypatch):
    monkeypatch.setattr(dvc_files, "LIMIT_BYTES", 10)
    with pytest.raises(InputError, match="too large"):
        parse_dvc_file(b"outs: [        ]", "x.dvc")
    monkeypatch.undo()
    monkeypatch.setattr(dvc_files, "LIMIT_VALUES", 10)
    with pytest.raises(InputError, match="10 values"):
        parse_dvc_file(b"outs: [1,2,3,4,5,6,7,8,9,10]", "x.dvc")


@given(st.binary(max_size=300) | st.text(alphabet="outs:[]{}-& *\n 'a", max_size=80).map(str.encode))
def test_no_bytes_make_it_fail_in_any_other_way(content):
    with contextlib.suppress(InputError):
        assert isinstance(parse_dvc_file(content, "x.dvc"), tuple)


LOCK = f"""
schema: '2.0'
stages:
  first:
    cmd: python make.py
    deps: [{{path: raw, hash: md5, md5: {MD5}, size: 1}}]
    params: {{params.yaml: {{lr: 1e-05, on: yes, when: 2020-01-01}}}}
    outs:
    - {{path: data/atlas, hash: md5, md5: {MD5}.dir, size: 10, nfiles: 2}}
  loop@0:
    cmd: x
    outs: [{{path: out, hash: md5, md5: {MD5}, size: 1}}]
  empty: {{cmd: x}}
"""


def test_outputs_of_a_lock_are_relative_to_the_stages_folder():
    pointers = parse_dvc_lock(LOCK.encode(), "sub/dvc.lock", {"loop": "inner"})
    assert [pointer.path for pointer in pointers] == ["sub/data/atlas", "sub/inner/out"]
    assert pointers[0] == DataPointer("sub/data/atlas", f"{MD5}.dir", 10, 2, "sub/dvc.lock")


@pytest.mark.parametrize(
    "content",
    [b"schema: '1.0'\nstages: {}", b"stages: {}", b"schema: '2.0'\nstages: []", b"schema: '2.0'\nstages: {a: 1}"],
)
def test_locks_of_another_shape(content):
    with pytest.raises(InputError):
        parse_dvc_lock(content, "dvc.lock", {})


def test_folders_of_stages():
    content = b"stages:\n  a: {cmd: x, wdir: sub}\n  b: {cmd: x}\n  c: {foreach: [1], do: {cmd: x, wdir: ..}}\n"
    assert stage_wdirs(content, "dvc.yaml") == {"a": "sub", "b": "", "c": ".."}
    assert stage_wdirs(b"x: &a 1\ny: *a\n", "dvc.yaml") == {}
    for bad in (b"stages: {a: {wdir: '${x}'}}", b"stages: {a: {wdir: [x]}}", b"x: &a wdir\ny: *a\n"):
        with pytest.raises(InputError):
            stage_wdirs(bad, "dvc.yaml")


def listing_of(*items: object) -> tuple[bytes, DataPointer]:
    content = json.dumps(list(items)).encode()
    return content, DataPointer("data", hashlib.md5(content).hexdigest() + ".dir", None, None, "x.dvc")


def test_a_listing_names_its_files():
    content, pointer = listing_of({"md5": MD5, "relpath": "a"}, {"md5": DIGITS, "relpath": "b/c", "isexec": True})
    assert parse_listing(content, pointer) == (ListedFile("a", MD5), ListedFile("b/c", DIGITS))


@pytest.mark.parametrize(
    "items",
    [
        [{"md5": MD5, "relpath": "../a"}],
        [{"md5": MD5, "relpath": "a"}, {"md5": MD5, "relpath": "a"}],
        [{"md5": MD5, "relpath": "a"}, {"md5": MD5, "relpath": "a/b"}],
        [{"md5": f"{MD5}.dir", "relpath": "a"}],
        [{"md5": "../x", "relpath": "a"}],
        [{"relpath": "a"}],
        [3],
    ],
)
def test_listings_that_are_refused_though_their_hash_is_right(items):
    content, pointer = listing_of(*items)
    with pytest.raises(IntegrityError, match="is refused"):
        parse_listing(content, pointer)


def test_another_listing_than_the_recorded_one_is_refused():
    content, pointer = listing_of({"md5": MD5, "relpath": "a"})
    with pytest.raises(IntegrityError, match="should have MD5"):
        parse_listing(content + b" ", pointer)


def test_locating_and_selecting():
    folder = DataPointer("data", f"{MD5}.dir", None, None, "x.dvc")
    file = DataPointer("one", MD5, None, None, "x.dvc")
    pointers = {"data": folder, "one": file}
    assert locate(pointers, "data") == (folder, "")
    assert locate(pointers, "data/a/b") == (folder, "a/b")
    assert locate(pointers, "one") == (file, "")
    assert locate(pointers, "one/a") is None
    assert locate(pointers, "dat") is None
    files = (ListedFile("a/b", MD5), ListedFile("a/c/d", MD5), ListedFile("ab", MD5))
    assert selected(files, "") == files
    assert [entry.path for entry in selected(files, "a")] == ["b", "c/d"]
    assert [entry.path for entry in selected(files, "a/c/d")] == ["d"]
