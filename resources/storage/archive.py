"""One file that holds many, written as a stream, with a manifest of SHA-256 sums as its last member.

It is a tar file that ends in `manifest.json`; a file that was cut off, or changed anywhere, has no manifest that fits.
Writing goes to `<name>.partial`, renamed when all is there, so a file with its own name is whole. Reading proves every
byte before the first is used, and again while it is used.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.manifest import MANIFEST
from llmops_core.tree_path import checked_path
from resources.storage.disk import disk_full, sync_file, sync_folder, told_when_full

CHUNK_BYTES = 2**20
Sums = dict[str, tuple[str, int]]  # {name: (SHA-256, bytes)}


class Hashed(io.RawIOBase):
    """A stream that is hashed while it is read; `file` is the archive it is in. Raises IntegrityError at a torn end."""

    def __init__(self, stream: IO[bytes], file: Path | None = None) -> None:
        self._stream, self._file, self.sha256, self.size = stream, file, hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            content = self._stream.read(size)
        except tarfile.TarError as error:
            raise IntegrityError(f"{self._file} was cut off: {error}; export again") from None
        self.sha256.update(content)
        self.size += len(content)
        return content


class ArchiveWriter:
    """Made by `writing`."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.sums: Sums = {}

    def add(self, name: str, content: bytes) -> None:
        self._add(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as stream:
            self._add(name, stream, path.stat().st_size)

    def _add(self, name: str, stream: IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(checked_path(name))
        member.size = size
        hashed = Hashed(stream)
        self._tar.addfile(member, hashed)
        self.sums[name] = (hashed.sha256.hexdigest(), size)


@contextmanager
def writing(file: Path) -> Iterator[ArchiveWriter]:
    """The archive `file` is there, whole, when the block has ended well. Raises InputError if it is there before, or
    cannot be made there."""
    partial = file.with_name(f"{file.name}.partial")
    with told_when_full(file.parent, f"write {file}"):
        with _begun(file, partial) as raw, tarfile.open(fileobj=raw, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            partial.chmod(0o600)  # what people asked and said is in it
            writer = ArchiveWriter(tar)
            yield writer
            sums = [
                {"path": name, "sha256": sha256, "size_bytes": size} for name, (sha256, size) in writer.sums.items()
            ]
            writer.add(MANIFEST, json.dumps({"kind": "llmops.archive/1", "files": sums}).encode())
        sync_file(partial)
        partial.rename(file)
        sync_folder(file.parent)


def _begun(file: Path, partial: Path) -> IO[bytes]:
    try:
        if not file.exists():
            return partial.open("wb")
    except OSError as error:
        if disk_full(error):
            raise
        raise InputError(
            Problem(
                str(file),
                "",
                _found_instead(file.parent, error),
                "a free name in a folder that you may write to",
                "no archive can be written there; make the folder, or name another",
            )
        ) from None
    kind = "a folder" if file.is_dir() else "a file"
    message = "nothing is written over it; name another, or remove it"
    raise InputError(Problem(str(file), "", kind, "a name that is free", message))


def _found_instead(folder: Path, error: OSError) -> str:
    """Why there is nothing to be had in a folder, by the first of those around it that is none."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        for path in (*reversed(folder.parents), folder):
            if not path.is_dir():
                return f"{path}, which is no folder" if path.exists() else f"no folder {path}"
    return os.strerror(error.errno).lower() if error.errno else str(error)


class Archive:
    """A file that `writing` made. Raises IntegrityError, when opened, for one that is not whole, InputError for one
    that cannot be read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.sums = self._proven()

    def members(self) -> Iterator[tuple[str, Hashed]]:
        """(name, bytes) in the order of writing. Raises IntegrityError if the file was changed since it was opened."""
        for name, stream in self._read():
            if name == MANIFEST:
                return
            hashed = Hashed(stream, self._file)
            yield name, hashed
            while hashed.read(CHUNK_BYTES):  # what the reader left
                pass
            if (hashed.sha256.hexdigest(), hashed.size) != self.sums.get(name):
                raise IntegrityError(f"{self._file}: {name} is not what the manifest says")

    def _proven(self) -> Sums:
        found: Sums = {}
        for name, stream in self._read():
            if name == MANIFEST:
                listed = _listed(Hashed(stream, self._file).read(), self._file)
                if listed != found:
                    wrong = [n for n in {**listed, **found} if listed.get(n) != found.get(n)]
                    raise IntegrityError(f"{self._file}: {', '.join(sorted(wrong)[:5])}: not what the manifest says")
                return found
            hashed = Hashed(stream, self._file)
            while hashed.read(CHUNK_BYTES):
                pass
            if name in found:
                raise IntegrityError(f"{self._file}: {name} is in it twice")
            found[name] = (hashed.sha256.hexdigest(), hashed.size)
        raise IntegrityError(f"{self._file} has no manifest: it was cut off; export again")

    def _read(self) -> Iterator[tuple[str, IO[bytes]]]:
        try:
            with _found(self._file) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
                for member in tar:
                    stream = tar.extractfile(member) if member.isreg() else None
                    if stream is None:
                        raise IntegrityError(f"{self._file}: {member.name!r} is no plain file")
                    yield checked_path(member.name), stream
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise IntegrityError(f"{self._file} is no archive of this platform, or was cut off: {error}") from None


def _found(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and file.parent.is_dir()
        kind = "a folder" if isinstance(error, IsADirectoryError) else _found_instead(file.parent, error)
        message = "there is nothing to read; name a file that `llmops export` wrote and you may read"
        raise InputError(Problem(str(file), "", "no such file" if missing else kind, "an archive", message)) from None


def _listed(content: bytes, file: Path) -> Sums:
    try:
        document = json.loads(content)
        if document["kind"] != "llmops.archive/1":
            raise ValueError(f"its kind is {document['kind']}")
        return {each["path"]: (each["sha256"], each["size_bytes"]) for each in document["files"]}
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{file}: its manifest cannot be read: {error}") from None
