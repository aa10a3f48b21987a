"""Identity is content: canonical JSON and SHA-256 over it.

Canonical means: keys sorted, no spaces, UTF-8, integers and finite floats only as themselves. What cannot be
serialised the same way on every machine (sets, NaN, objects, non-string keys) is refused instead of guessed.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, cast


def canonical_json(value: Any) -> bytes:
    """Bytes that are equal exactly when the values are. Raises TypeError for what has no stable form."""
    _refuse_unstable(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        errors="surrogatepass"
    )


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces so that weights of any size fit."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _refuse_unstable(value: Any, where: str) -> None:
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where}: {value} has no canonical form")
        return
    if isinstance(value, dict):
        for key, item in cast("dict[Any, Any]", value).items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is not a string")
            _refuse_unstable(item, f"{where}.{key}")
        return
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("list[Any]", value)):
            _refuse_unstable(item, f"{where}[{index}]")
        return
    raise TypeError(f"{where}: {type(value).__name__} has no canonical form")
