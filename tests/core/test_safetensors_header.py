"""Headers that safetensors writes are read; headers that lie about the file are not."""

import json
import struct

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from llmops_core.safetensors_header import header_bytes, parse_header


def parsed(content: bytes):
    length = header_bytes(content[:8], len(content))
    return parse_header(content[8 : 8 + length], len(content) - 8 - length)


def file_of(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@given(
    st.dictionaries(st.text(min_size=1, max_size=9), st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5)
)
def test_what_the_library_writes_is_read(shapes):
    shapes = {name: shape for name, shape in shapes.items() if name != "__metadata__"}
    content = save({name: numpy.zeros(shape, dtype="float16") for name, shape in shapes.items()}, {"format": "pt"})
    if shapes:
        assert {name: list(found.shape) for name, found in parsed(content).items()} == shapes


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 0),
        struct.pack("<Q", 100) + b"{}",
        file_of(b"[1]"),
        file_of(b"{" * 50),
        file_of(b"[" * 100_000),
        file_of(b"\xff\xff"),
        file_of({}),
        file_of({"__metadata__": {"a": "b"}}),
        file_of(b'{"a": {}, "a": {}}'),
        file_of({"a": 3}),
        file_of({"a": tensor(dtype="PICKLE")}),
        file_of({"a": tensor(dtype=["F32"])}),
        file_of({"a": tensor(shape=(-1, -2))}),
        file_of({"a": tensor(shape=(True, 2))}),
        file_of({"a": tensor(shape=(3,))}),
        file_of({"a": tensor(offsets=(8, 16))}),
        file_of({"a": tensor(offsets=(-8, 0))}),
        file_of({"a": tensor(offsets=(0, 8, 9))}),
        file_of({"a": tensor(offsets=(0, 8)), "b": tensor(offsets=(0, 8))}),
        file_of({"a": tensor()}, b"\0" * 9),
        file_of({"a": tensor()}, b"\0" * 7),
        file_of({"a": tensor(dtype="F4", shape=(3,), offsets=(0, 1))}, b"\0"),
        file_of({"a": tensor(shape=(2**62, 2**62))}),
    ],
)
def test_headers_that_lie(content):
    with pytest.raises(ValueError, match=r".+"):
        parsed(content)


@given(st.binary(max_size=120))
def test_no_bytes_fail_in_any_other_way(content):
    try:
        assert parsed(content)
    except ValueError as error:
        assert str(error)
