"""The door to artefacts: folders named by the digest of their content, which never change once they are there.

    <root>/<kind>/<digest>/      the files, read-only, and manifest.json

Publishing links (or copies) the files into a staging folder, hashes them there, writes the manifest last, forces all
of it to the disk and renames the folder to its digest. So a reader sees nothing or everything, whenever a publisher
dies, and the caller's own folder is still there to try again.
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from llmops_core.errors import InputError, IntegrityError, Problem
from llmops_core.fingerprint import digest_of_file
from llmops_core.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    check_digest,
    check_kind,
    differences,
    manifest_of,
    read_manifest,
)
from llmops_core.tree_path import checked_path
from resources.storage.disk import disk_full, sync_file, sync_folder, told_when_full
from resources.storage.staging import publish, staged


@dataclass(frozen=True)
class Artifact:
    """A published folder. `path` holds the manifest's files (and manifest.json); nothing in it may be changed."""

    kind: str
    digest: str
    path: Path
    manifest: Manifest


class ArtifactStore(ABC):
    """Content-addressed folders. All methods raise InputError for a `kind` or `digest` that is none."""

    @property
    @abstractmethod
    def uri(self) -> str:
        """Where the store is, for people and other programs; an artefact is at `<uri>/<kind>/<digest>`."""

    @abstractmethod
    def publish(self, kind: str, folder: Path) -> Artifact:
        """Keep the files of `folder`, which becomes read-only and may be removed afterwards. Publishing again is free.

        Raises InputError for links and special files, EnvironmentLacks for a full disk, IntegrityError when the same
        artefact is there already but was changed.
        """

    @abstractmethod
    def get(self, kind: str, digest: str) -> Artifact | None:
        """The artefact, None if there is none. Raises IntegrityError when its manifest was changed."""

    @abstractmethod
    def verify(self, kind: str, digest: str) -> list[str]:
        """Re-hash every byte. One sentence for each thing that is not as it was published; empty when all is well."""

    @abstractmethod
    def listed(self) -> list[tuple[str, str]]:
        """(kind, digest) of everything that was published, sorted. Nothing is hashed."""

    def verified(self, kind: str, digest: str) -> Artifact:
        """The artefact, every byte of it re-hashed. Raises IntegrityError when it is gone or not what it was."""
        if wrong := self.verify(kind, digest):
            raise IntegrityError(f"{kind} {digest[:12]} is not what was made: {'; '.join(wrong)}")
        artifact = self.get(kind, digest)
        if artifact is None:
            raise IntegrityError(f"{kind} {digest[:12]} is gone from the artefact store")
        return artifact


class FolderArtifacts(ArtifactStore):
    """Artefacts in a folder of this machine, or of a volume that several machines mount (it needs flock and rename)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def uri(self) -> str:
        return self.root.as_uri()

    def publish(self, kind: str, folder: Path) -> Artifact:
        check_kind(kind)
        names = _regular_files(folder)
        with told_when_full(self.root, f"publish {kind}"), staged(self.root) as staging:
            for name in names:
                _take_in(folder / name, staging / name)
            return self.move_in(manifest_of(kind, _entries(staging, names)), staging)

    def get(self, kind: str, digest: str) -> Artifact | None:
        place = self._place(kind, digest)
        if not place.exists():
            return None
        try:
            content = (place / MANIFEST).read_bytes()
        except FileNotFoundError:
            raise IntegrityError(f"{kind} {digest}: {MANIFEST} is missing") from None
        return Artifact(kind, digest, place, read_manifest(content, kind, digest))

    def verify(self, kind: str, digest: str) -> list[str]:
        try:
            artifact = self.get(kind, digest)
        except IntegrityError as error:
            return [str(error)]
        if artifact is None:
            return [f"{kind} {digest} is missing"]
        if artifact.path.is_symlink():
            return [f"{kind} {digest} was replaced by a link"]
        found = {name: plain for name, plain in _walk(artifact.path) if name != MANIFEST}
        odd = [f"{name} is no regular file" for name, plain in found.items() if not plain]
        entries = _entries(artifact.path, (name for name, plain in found.items() if plain))
        return odd + differences(artifact.manifest, entries)

    def listed(self) -> list[tuple[str, str]]:
        places = [path.parent for path in self.root.glob(f"[!.]*/*/{MANIFEST}")]
        return sorted((place.parent.name, place.name) for place in places)

    def _place(self, kind: str, digest: str) -> Path:
        return self.root / check_kind(kind) / check_digest(digest)

    def move_in(self, manifest: Manifest, staging: Path) -> Artifact:
        """Give a complete staging folder (`staged` beside `root`, its files hashed and read-only) its name; if the
        name is taken, what is there must be whole."""
        place = self._place(manifest.kind, manifest.digest)
        if not place.exists():
            _write_read_only(staging / MANIFEST, manifest.content())
            for folder in {(staging / entry.path).parent for entry in manifest.files}:
                sync_folder(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                publish(staging, place)
            except OSError:
                if not place.exists():
                    raise
            else:
                return Artifact(manifest.kind, manifest.digest, place, manifest)
        if wrong := self.verify(manifest.kind, manifest.digest):
            listed = "; ".join(wrong)
            raise IntegrityError(f"{place} is not what was published: {listed}. Look why, then remove the folder")
        return Artifact(manifest.kind, manifest.digest, place, manifest)


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(relative path, whether a regular file) of everything below a folder that is not itself a folder."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.is_file(follow_symlinks=False)


def _regular_files(folder: Path) -> list[str]:
    """Paths of all files in a folder. Raises InputError naming each link, device, pipe, socket and hostile name."""
    if not folder.is_dir():
        raise InputError(Problem(str(folder), "", "nothing", "a folder", "there is nothing to publish"))
    problems: list[Problem] = []
    names: list[str] = []
    for name, plain in _walk(folder):
        try:
            names.append(checked_path(name))
            if not plain:
                raise ValueError("a link or special file")
        except ValueError as error:
            problems.append(Problem(str(folder), ascii(name), str(error), "a regular file", "cannot be published"))
    if problems:
        raise InputError(*problems)
    return names


def _take_in(source: Path, place: Path) -> None:
    """Link a file that nobody else has linked, copy any other: a second name would be a way to change it later."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.lstat().st_nlink > 1:
            raise PermissionError
        os.link(source, place, follow_symlinks=False)
    except OSError as error:
        if disk_full(error):
            raise
        shutil.copyfile(source, place, follow_symlinks=False)  # another file system, or one without hard links
    place.chmod(0o444)
    sync_file(place)


def _entries(folder: Path, names: Iterable[str]) -> list[FileEntry]:
    """Hashed by several threads: SHA-256 releases the interpreter's lock."""

    def entry(name: str) -> FileEntry:
        return FileEntry(name, digest_of_file(folder / name), (folder / name).stat().st_size)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(entry, names))


def _write_read_only(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    place.chmod(0o444)
    sync_file(place)
