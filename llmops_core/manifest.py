"""What an artefact is: its files by path, SHA-256 and size. The manifest's own SHA-256 is the artefact's name.

The manifest is written as canonical JSON, so that one set of files has one digest on every machine, and so that
re-hashing the manifest and then each file proves every byte of the artefact.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.fingerprint import canonical_json, digest_of_bytes, is_digest
from llmops_core.tree_path import checked_path, checked_paths

MANIFEST = "manifest.json"
_KIND = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class FileEntry:
    """One file: `path` relative to the artefact's folder, `sha256` as 64 hexadecimal digits."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """Files of one artefact, sorted by path. Make it with `manifest_of` or `read_manifest`, which check."""

    kind: str
    files: tuple[FileEntry, ...]

    def content(self) -> bytes:
        return canonical_json({"kind": self.kind, "files": [asdict(entry) for entry in self.files]})

    @property
    def digest(self) -> str:
        return digest_of_bytes(self.content())

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)


def check_kind(kind: str) -> str:
    """A kind names a folder. Raises InputError for anything but a plain name such as `base_weights`."""
    if not _KIND.fullmatch(kind):
        raise InputError(Problem("artefact", "kind", repr(kind), "a-z, 0-9 and _, a letter first", "is no kind"))
    return kind


def check_digest(digest: str) -> str:
    """A digest names a folder too. Raises InputError for anything but 64 hexadecimal digits."""
    if not is_digest(digest):
        raise InputError(Problem("artefact", "digest", repr(digest), "64 hexadecimal digits", "is no digest"))
    return digest


def manifest_of(kind: str, files: Iterable[FileEntry]) -> Manifest:
    """The manifest of these files. Raises InputError for none, for hostile paths and for the manifest's own name."""
    entries = tuple(sorted(files, key=lambda entry: entry.path))
    try:
        checked_paths(entry.path for entry in entries)
    except ValueError as error:
        raise InputError(Problem(kind, "path", str(error), "plain relative paths", "cannot be published")) from None
    if not entries:
        raise InputError(Problem(kind, "", "an empty folder", "at least one file", "there is nothing to publish"))
    if any(entry.path == MANIFEST for entry in entries):
        raise InputError(Problem(kind, MANIFEST, "a file of this name", "another name", "the name is the manifest's"))
    return Manifest(check_kind(kind), entries)


def read_manifest(content: bytes, kind: str, digest: str) -> Manifest:
    """The manifest in `content`. Raises IntegrityError unless it is the one that `kind` and `digest` name."""
    found = digest_of_bytes(content)
    if found != digest:
        raise IntegrityError(f"{MANIFEST} of {kind} {digest} was changed: its digest is now {found}")
    try:
        manifest = _parsed(json.loads(content))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{MANIFEST} of {kind} {digest} is no manifest: {error}") from None
    if manifest.kind != kind or manifest.content() != content:
        raise IntegrityError(f"{MANIFEST} of {kind} {digest} is not the canonical manifest of a {kind}")
    return manifest


def differences(manifest: Manifest, found: Iterable[FileEntry]) -> list[str]:
    """How the files found differ from the manifest, one sentence for each missing, changed and extra file."""
    there = {entry.path: entry for entry in found}
    sentences: list[str] = []
    for entry in manifest.files:
        other = there.pop(entry.path, None)
        if other is None:
            sentences.append(f"{entry.path} is missing")
        elif other != entry:
            was, now = (f"{e.sha256[:12]}… ({e.size_bytes} bytes)" for e in (entry, other))
            sentences.append(f"{entry.path} was changed: {now} instead of {was}")
    sentences.extend(f"{path} was added" for path in sorted(there))
    return sentences


def _parsed(value: Any) -> Manifest:
    files = [_entry(item) for item in value["files"]]
    checked_paths(entry.path for entry in files)
    return Manifest(_text(value["kind"]), tuple(files))


def _entry(item: Any) -> FileEntry:
    fields = cast(dict[str, Any], item)
    path, sha256, size = checked_path(fields["path"]), fields["sha256"], fields["size_bytes"]
    if not is_digest(sha256) or type(size) is not int or size < 0 or len(fields) != 3:
        raise ValueError(f"{path!r} has no digest and size")
    return FileEntry(path, sha256, size)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("kind is no text")
    return value
