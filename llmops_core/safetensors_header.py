"""The header of a safetensors file, read as untrusted bytes: which tensors it holds and where.

A file is eight bytes with the header's length (little-endian), the header as JSON, then the data. Unlike a pickle it
can only hold numbers; what is left to check is that every tensor lies inside the data, that none overlap, that there
are no gaps to hide something in, and that a tensor's bytes are as many as its type and shape say.
Format: https://huggingface.co/docs/safetensors, "Format".
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

LENGTH_BYTES = 8
LIMIT_HEADER_BYTES = 100_000_000  # the format's own limit
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type, its shape, and where it starts and ends in the data, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def header_bytes(first: bytes, file_bytes: int) -> int:
    """The header's length from a file's first eight bytes. Raises ValueError when it cannot be right."""
    if len(first) < LENGTH_BYTES:
        raise ValueError(f"the file has {file_bytes} bytes, too few for a header")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if not 2 <= length <= min(LIMIT_HEADER_BYTES, file_bytes - LENGTH_BYTES):
        raise ValueError(f"a header of {length} bytes does not fit into a file of {file_bytes}")
    return length


def parse_header(header: bytes, data_bytes: int) -> dict[str, Tensor]:
    """{name: tensor} of a header whose data has `data_bytes` bytes. Raises ValueError for what breaks the format."""
    try:
        values = json.loads(header, object_pairs_hook=_no_key_twice)
    except (RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"the header is no JSON: {str(error)[:100]}") from None
    if not isinstance(values, dict):
        raise ValueError("the header is no JSON object")
    fields = cast(dict[str, Any], values)
    tensors = {name: _tensor(name, fields[name]) for name in fields if name != "__metadata__"}
    if not tensors:
        raise ValueError("the file holds no tensors")
    _check_layout(tensors, data_bytes)
    return tensors


def _tensor(name: str, value: Any) -> Tensor:
    try:
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        start, end = offsets
        bits = BITS[dtype] * math.prod(_counts(shape))
        _counts(offsets)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the tensor {name[:80]!r} has no known type, shape and place") from None
    if bits % 8 or end - start != bits // 8:
        raise ValueError(f"the tensor {name[:80]!r} should have {bits / 8} bytes, but has {end - start}")
    return Tensor(dtype, tuple(shape), start, end)


def _counts(values: Sequence[Any]) -> Sequence[int]:
    if not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise ValueError("not all are counts")
    return values


def _check_layout(tensors: dict[str, Tensor], data_bytes: int) -> None:
    """Tensors lie one after the other and fill the data."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            raise ValueError(f"the tensor {name[:80]!r} starts at {tensor.start}, not where the one before it ends")
        position = tensor.end
    if position != data_bytes:
        raise ValueError(f"tensors end at {position}, but the data has {data_bytes} bytes")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands there twice")
    return values
