"""The door to data versions: what DVC tracks at a Git revision, and its bytes.

Which data a revision means is read from Git objects, in milliseconds and without DVC. The bytes are found by hash, in
DVC's local cache first and on its remote otherwise, so that neither the working tree nor a later commit can change
what a run sees. Every file is checked against DVC's MD5 while it is copied, and gets a SHA-256 of our own.
"""

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, Problem
from llmops_core.manifest import FileEntry
from llmops_core.tree_path import checked_path
from resources.data.dvc_remotes import DvcRemotes
from resources.data.file_index import FileIndex
from resources.git.source import SourceRepository
from resources.storage.disk import disk_full, sync_file
from resources.storage.staging import publish, staged

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class FetchedData:
    """Files of one tracked output in `folder`, verified. `pointer` is the output that is or contains them."""

    pointer: DataPointer
    folder: Path
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Declared:
    """What one file declares, and what is wrong with it."""

    pointers: tuple[DataPointer, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Survey:
    """All sound pointers of a revision, and what is wrong with the others (one broken file stops its own data only)."""

    pointers: Mapping[str, DataPointer]
    problems: tuple[Problem, ...]


class DatasetStore(ABC):
    """Data by revision and path. Methods raise InputError for what the author of the commit must mend."""

    @abstractmethod
    def survey(self, revision: str) -> Survey:
        """Everything tracked at a revision."""

    @abstractmethod
    def listed(self, revision: str, path: str) -> tuple[ListedFile, ...]:
        """The files at a tracked path with their MD5, without their bytes (a folder's listing may be pulled)."""

    @abstractmethod
    def fetch(self, revision: str, path: str, target: Path) -> FetchedData:
        """Write the files of a tracked path into the new folder `target`, whole or not at all.

        `path` is an output or lies inside one; a single file lands in `target` under its own name. A target that is
        there already is checked instead. Raises IntegrityError for bytes that are not what DVC recorded,
        TransientError for an unreachable remote, EnvironmentLacks for a full disk.
        """

    @abstractmethod
    def lacking(self, revision: str, paths: Iterable[str]) -> dict[str, str]:
        """{path: why} of tracked paths with objects that neither the cache nor a remote has. Brings nothing but
        folders' listings. Raises TransientError for an unreachable remote."""

    def tracked(self, revision: str) -> Mapping[str, DataPointer]:
        """{path: pointer} of a revision's outputs that can be read."""
        return self.survey(revision).pointers

    def pointer(self, revision: str, path: str) -> DataPointer:
        """The output that is or contains `path`."""
        return self._located(revision, path)[0]

    def _located(self, revision: str, path: str) -> tuple[DataPointer, str]:
        survey = self.survey(revision)
        try:
            found = locate(survey.pointers, checked_path(path.rstrip("/")))
        except ValueError as error:
            raise InputError(Problem(revision, path, str(error), "a path inside the repository", "refused")) from None
        if found is None:
            known = ", ".join(survey.pointers) or "nothing"
            message = f"{path} is no DVC output at revision {revision}: add it with `dvc add` or a stage, and commit"
            raise InputError(
                Problem("data", "path", path, f"one of the outputs tracked there: {known[:500]}", message),
                *survey.problems,
            )
        return found


class DvcStore(DatasetStore):
    """DVC in a repository on this machine. `repository` is its working tree, whose .dvc folder holds the settings.
    `allowed_endpoints` are given for somebody else's repository (resources/data/dvc_remotes.py)."""

    def __init__(
        self, repository: Path, source: SourceRepository, allowed_endpoints: Collection[str] | None = None
    ) -> None:
        self.repository = repository
        self.source = source
        self._cache = repository / ".dvc" / "cache" / "files" / "md5"
        self._remotes = DvcRemotes(repository, allowed_endpoints)
        self._declared = FileIndex(source, _declares_outputs, self._read, affected=_lock_beside)
        self._newest: tuple[str, Survey] | None = None  # sensors ask for many paths of one revision

    def survey(self, revision: str) -> Survey:
        newest = self._newest
        if newest is None or newest[0] != revision:
            newest = (revision, _merged(self._declared.at(revision).values))
            if len(revision) == 40:
                self._newest = newest
        return newest[1]

    def listed(self, revision: str, path: str) -> tuple[ListedFile, ...]:
        return self._files(*self._located(revision, path), path)

    def fetch(self, revision: str, path: str, target: Path) -> FetchedData:
        pointer, inside = self._located(revision, path)
        files = self._files(pointer, inside, path)
        self._bring(pointer, {file.md5: file.path for file in files})
        if target.exists():
            return FetchedData(pointer, target, _checked(files, target))
        try:
            return FetchedData(pointer, target, self._write(files, target))
        except OSError as error:
            if disk_full(error):
                raise EnvironmentLacks(f"no space left for {path} at {target.parent}; free some and retry") from error
            raise

    def lacking(self, revision: str, paths: Iterable[str]) -> dict[str, str]:
        lost: dict[str, str] = {}
        for path in paths:
            pointer, inside = self._located(revision, path)
            try:
                files = self._files(pointer, inside, path, briefly=True)
                absent = {file.md5: file.path for file in files if not self._object(file.md5).exists()}
                missing = self._remotes.missing(absent, self._remote(pointer)) if absent else ()
            except InputError as error:
                lost[path] = str(error)
                continue
            if missing:
                first = f"{absent[missing[0]]} (md5 {missing[0]})"
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                lost[path] = f"{pointer.declared_in} names {first}{more}, which no remote has: run `dvc push`"
        return lost

    def _read(self, revision: str, file: str) -> Declared:
        try:
            return Declared(self._parse(revision, file), ())
        except InputError as error:
            return Declared((), error.problems)

    def _parse(self, revision: str, file: str) -> tuple[DataPointer, ...]:
        content = self.source.read(revision, file) or b""
        if file.endswith(".dvc"):
            return parse_dvc_file(content, file)
        stages = f"{file.removesuffix('lock')}yaml"
        return parse_dvc_lock(content, file, stage_wdirs(self.source.read(revision, stages) or b"", stages))

    def _files(self, pointer: DataPointer, inside: str, path: str, briefly: bool = False) -> tuple[ListedFile, ...]:
        if not pointer.is_dir:
            return (ListedFile(pointer.path.rpartition("/")[2], pointer.md5),)
        self._bring(pointer, {pointer.md5: pointer.path}, briefly)
        listing = self._object(pointer.md5).read_bytes()
        try:
            files = selected(parse_listing(listing, pointer), inside)
        except IntegrityError as error:
            raise IntegrityError(f"{self._object(pointer.md5)}: {error}; remove it and fetch again") from None
        if not files:
            message = f"{pointer.path} holds no such file, as {pointer.declared_in} tracks it"
            raise InputError(Problem("data", "path", path, "a path inside the output, with files", message))
        return files

    def _object(self, md5: str) -> Path:
        return self._cache / md5[:2] / md5[2:]

    def _remote(self, pointer: DataPointer) -> str | None:
        if pointer.remote is not None and not self._remotes.offers(pointer.remote):
            message = "the remote is not in .dvc/config of that repository: name one that is, or leave the field out"
            field = f"{pointer.path}: remote"
            raise InputError(Problem(pointer.declared_in, field, pointer.remote, "one of its own remotes", message))
        return pointer.remote

    def _bring(self, pointer: DataPointer, wanted: Mapping[str, str], briefly: bool = False) -> None:
        """Pull what the cache lacks. `wanted` maps hashes to names for people."""
        lacking = [md5 for md5 in wanted if not self._object(md5).exists()]
        if not lacking:
            return
        self._cache, reason = self._remotes.bring(lacking, self._remote(pointer), self._cache, briefly)
        lost = [md5 for md5 in lacking if not self._object(md5).exists()]
        message = f"run `dvc push` where the data is, or `dvc repro` to make it again{reason}"
        expected = "an object in the cache or on the remote"
        problems = [
            Problem(pointer.declared_in, pointer.path, f"{wanted[md5]} (md5 {md5}) nowhere", expected, message)
            for md5 in lost[:20]
        ]
        if problems:
            raise InputError(*problems)

    def _write(self, files: tuple[ListedFile, ...], target: Path) -> tuple[FileEntry, ...]:
        target.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(self._object(file.md5).stat().st_size for file in files)
        if needed > (free := shutil.disk_usage(target.parent).free):
            raise EnvironmentLacks(f"{target.name} needs {needed} bytes, but {target.parent} has {free} left")
        with staged(target.parent) as partial:
            entries = tuple(self._copy(file, partial / file.path) for file in files)
            publish(partial, target)
        return entries

    def _copy(self, file: ListedFile, place: Path) -> FileEntry:
        """Copy one object. Never a link: DVC's cache is other people's, and must not change when ours does."""
        cached = self._object(file.md5)
        place.parent.mkdir(parents=True, exist_ok=True)
        with cached.open("rb") as source, place.open("xb") as copy:
            md5, entry = _hashed(iter(lambda: source.read(CHUNK_BYTES), b""), file.path, copy.write)
        if md5 != file.md5:
            raise IntegrityError(
                f"{cached} holds {file.path} with MD5 {md5} instead of {file.md5}: the cache is damaged; remove that "
                "file and run again to pull it, or `dvc repro` to make it again"
            )
        sync_file(place)
        return entry


def _declares_outputs(path: str) -> bool:
    return path.endswith(".dvc") or path.rpartition("/")[2] == "dvc.lock"


def _lock_beside(path: str) -> str:
    """A dvc.yaml says where its stages work, so the dvc.lock beside it means something else when it changes."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}dvc.lock" if name == "dvc.yaml" else path


def _merged(declared: Mapping[str, Declared]) -> Survey:
    """All outputs of a revision by path; one that two files declare is the first one's, and a problem."""
    pointers: dict[str, DataPointer] = {}
    problems: list[Problem] = []
    for file, read in declared.items():
        problems.extend(read.problems)
        for pointer in read.pointers:
            other = pointers.setdefault(pointer.path, pointer)
            if other != pointer:
                message = f"{other.declared_in} tracks it too; remove one"
                problems.append(Problem(file, pointer.path, "an output again", "each output once", message))
    return Survey(dict(sorted(pointers.items())), tuple(problems))


def _checked(files: tuple[ListedFile, ...], folder: Path) -> tuple[FileEntry, ...]:
    """The entries of an earlier fetch, when every file is still what DVC recorded and no other is there."""
    wrong = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()} - {file.path for file in files}
    entries: list[FileEntry] = []
    for file in files:
        place = folder / file.path
        if not place.is_file() or place.is_symlink():
            wrong.add(file.path)
            continue
        with place.open("rb") as stream:
            md5, entry = _hashed(iter(lambda stream=stream: stream.read(CHUNK_BYTES), b""), file.path)
        entries.append(entry)
        if md5 != file.md5:
            wrong.add(file.path)
    if wrong:
        listed = ", ".join(sorted(wrong)[:10])
        raise IntegrityError(f"{folder} is no longer what was fetched: {listed} differ; look why, then remove it")
    return tuple(entries)


def _hashed(
    chunks: Iterable[bytes], path: str, write: Callable[[bytes], object] | None = None
) -> tuple[str, FileEntry]:
    """MD5 and entry of a stream, handing each piece to `write` on the way."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    for chunk in chunks:
        md5.update(chunk)
        sha256.update(chunk)
        size += len(chunk)
        if write is not None:
            write(chunk)
    return md5.hexdigest(), FileEntry(path, sha256.hexdigest(), size)
