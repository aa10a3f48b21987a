"""Artefacts in an S3-compatible bucket, with a folder of this machine as cache.

    s3://<bucket>/<prefix>/<kind>/<digest>/      the files, and manifest.json, which is written last
    <cache>/<kind>/<digest>/                     the same on this machine, as the store of folders keeps it

The bucket is the truth: an artefact is there when its manifest is, whatever lies in a cache. A publisher first makes
the folder in its cache, which fixes the bytes and their digest, then sends the files, then the manifest. Dying
anywhere before leaves objects that nobody calls an artefact, and the next publisher sends only what is missing. Two
that publish the same artefact write the same bytes under the same names.

Reading fetches what the cache lacks and hashes it on the way, so a cache may be emptied whenever nothing uses it.
"""

import hashlib
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmops_core.errors import EnvironmentLacks, IntegrityError
from llmops_core.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    check_digest,
    check_kind,
    differences,
    read_manifest,
)
from resources.storage.artifact_store import Artifact, ArtifactStore, FolderArtifacts
from resources.storage.disk import sync_file, told_when_full
from resources.storage.object_store import ChangedMeanwhile, NamedPlace, NotThere
from resources.storage.s3_folder import PART_BYTES, S3Folder, Stored
from resources.storage.staging import staged

FILES_AT_ONCE = 8
GONE = "0" * 64  # stands for the digest of bytes that could not be read; no content has it


class S3Artifacts(ArtifactStore):
    """`place` names the folder in the bucket, `cache` a folder of this machine. InputError for a missing bucket and
    refused access, TransientError for a store that does not answer, from every method."""

    def __init__(self, place: NamedPlace, cache: Path, part_bytes: int = PART_BYTES) -> None:
        self._place, self._part_bytes = place, part_bytes
        self._cache = FolderArtifacts(cache)

    @property
    def uri(self) -> str:
        return self._place.uri.rstrip("/")

    def publish(self, kind: str, folder: Path) -> Artifact:
        artifact = self._cache.publish(kind, folder)
        bucket, below = self._opened(kind, artifact.digest)
        there = bucket.listed(below)
        if MANIFEST in there:
            self._refuse_other(bucket, there, artifact)
            return artifact
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            list(
                pool.map(
                    lambda entry: bucket.send(
                        f"{below}/{entry.path}", artifact.path / entry.path, there.get(entry.path)
                    ),
                    artifact.manifest.files,
                )
            )
        if wrong := _unlike(artifact.manifest, bucket.listed(below)):
            raise IntegrityError(f"{self._place.uri}/{below} is not what was sent: {'; '.join(wrong)}. Look why")
        if not bucket.put_new(f"{below}/{MANIFEST}", artifact.manifest.content()):
            self._refuse_other(bucket, bucket.listed(below), artifact)  # another publisher was first
        return artifact

    def get(self, kind: str, digest: str) -> Artifact | None:
        bucket, below = self._opened(kind, digest)
        there = bucket.listed(below)
        if MANIFEST not in there:
            return None
        manifest = read_manifest(bucket.content(there[MANIFEST]), kind, digest)
        if wrong := _unlike(manifest, there):
            raise IntegrityError(f"{kind} {digest} in {self._place.uri}: {'; '.join(wrong)}")
        return self._kept(manifest) or self._fetched(bucket, there, manifest)

    def verify(self, kind: str, digest: str) -> list[str]:
        """The bucket's bytes, and those of the copy on this machine if there is one: it is what is read here."""
        bucket, below = self._opened(kind, digest)
        there = bucket.listed(below)
        if MANIFEST not in there:
            return [f"{kind} {digest} is missing"]
        try:
            manifest = read_manifest(bucket.content(there.pop(MANIFEST)), kind, digest)
        except IntegrityError as error:
            return [str(error)]
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            entries = list(pool.map(lambda item: _hashed(bucket, *item), there.items()))
        wrong = differences(manifest, entries)
        copy = self._cache.root / kind / digest
        if copy.exists():
            wrong += [f"the copy in {copy}: {sentence}" for sentence in self._cache.verify(kind, digest)]
        return wrong

    def withdraw(self, kind: str, digest: str) -> None:
        """Without its manifest it is no artefact any more; whoever publishes it again sends what is missing."""
        bucket, below = self._opened(kind, digest)
        bucket.remove(f"{below}/{MANIFEST}")

    def listed(self) -> list[tuple[str, str]]:
        names = [name.split("/") for name in S3Folder(self._place, self._part_bytes).listed("")]
        return sorted((parts[0], parts[1]) for parts in names if len(parts) == 3 and parts[2] == MANIFEST)

    def verified(self, kind: str, digest: str) -> Artifact:
        """The artefact; every byte of the copy that is returned was hashed. One that was spoiled is fetched again."""
        artifact = self.get(kind, digest)
        if artifact is None:
            raise IntegrityError(f"{kind} {digest[:12]} is gone from the artefact store")
        if not self._cache.verify(kind, digest):
            return artifact
        _drop(artifact.path)
        return self.verified(kind, digest)

    def _opened(self, kind: str, digest: str) -> tuple[S3Folder, str]:
        """A client of its own for each operation: credentials may have been rotated since the last."""
        return S3Folder(self._place, self._part_bytes), f"{check_kind(kind)}/{check_digest(digest)}"

    def _refuse_other(self, bucket: S3Folder, there: Mapping[str, Stored], artifact: Artifact) -> None:
        """What is published must be what would have been: by ETags, or by every byte where these cannot tell."""
        entries = artifact.manifest.files
        known = {entry.path for entry in entries} | {MANIFEST} == set(there) and all(
            there[entry.path].etag == bucket.etag_of(artifact.path / entry.path) for entry in entries
        )
        same = known and bucket.content(there[MANIFEST]) == artifact.manifest.content()
        if not same and (wrong := self.verify(artifact.kind, artifact.digest)):
            where = f"{self._place.uri}/{artifact.kind}/{artifact.digest}"
            raise IntegrityError(f"{where} is not what was published: {'; '.join(wrong)}. Look why, then remove it")

    def _kept(self, manifest: Manifest) -> Artifact | None:
        """The copy on this machine, if it looks whole; one that does not is removed."""
        place = self._cache.root / manifest.kind / manifest.digest
        try:
            artifact = self._cache.get(manifest.kind, manifest.digest)
            if artifact is None or all((place / e.path).stat().st_size == e.size_bytes for e in manifest.files):
                return artifact
        except (IntegrityError, FileNotFoundError):
            pass
        _drop(place)
        return None

    def _fetched(self, bucket: S3Folder, there: Mapping[str, Stored], manifest: Manifest) -> Artifact:
        doing = f"fetch {manifest.kind} {manifest.digest[:12]}"
        with told_when_full(self._cache.root, doing), staged(self._cache.root) as staging:
            free = shutil.disk_usage(staging).free
            if manifest.size_bytes > free:
                message = f"no space left to {doing}: it has {manifest.size_bytes} bytes"
                raise EnvironmentLacks(f"{message}, {staging} has {free} left: free some space and run again")
            with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
                list(pool.map(lambda e: _fetch(bucket, there[e.path], e, staging / e.path), manifest.files))
            return self._cache.move_in(manifest, staging)


def _unlike(manifest: Manifest, there: Mapping[str, Stored]) -> list[str]:
    """How the listing differs from the manifest in names and sizes."""
    found = {name: stored.size_bytes for name, stored in there.items() if name != MANIFEST}
    wanted = {entry.path: entry.size_bytes for entry in manifest.files}
    sentences = [f"{path} is missing" for path in wanted if path not in found]
    sentences += [f"{path} was added" for path in found if path not in wanted]
    both = [path for path in wanted if path in found and wanted[path] != found[path]]
    return sentences + [f"{path} was changed: {found[path]} bytes instead of {wanted[path]}" for path in both]


def _hashed(bucket: S3Folder, name: str, stored: Stored) -> FileEntry:
    sha256, size = hashlib.sha256(), 0
    try:
        for chunk in bucket.chunks(stored):
            sha256.update(chunk)
            size += len(chunk)
    except (ChangedMeanwhile, NotThere):
        return FileEntry(name, GONE, size)
    return FileEntry(name, sha256.hexdigest(), size)


def _fetch(bucket: S3Folder, stored: Stored, entry: FileEntry, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    with place.open("wb") as stream:
        for chunk in bucket.chunks(stored):
            sha256.update(chunk)
            stream.write(chunk)
    if sha256.hexdigest() != entry.sha256:
        raise IntegrityError(f"{stored.key} was changed: {sha256.hexdigest()[:12]} instead of {entry.sha256[:12]}")
    place.chmod(0o444)
    sync_file(place)


def _drop(place: Path) -> None:
    """Remove a copy whose bytes the bucket has; another process may do the same at this moment."""
    if place.is_symlink():
        place.unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)
