"""The door to places where files arrive: what lies there in which version, and the bytes of exactly that version.

A version changes whenever the bytes may have. In a folder it is made of size, both times and the inode: the time of
change cannot be set back, as the time of modification can. In a bucket it is the ETag with the time of upload, so that
whoever wants a refused object judged again uploads it again. What changed between listing and reading is not read.
Nothing is ever moved or removed: the place belongs to those who fill it.
"""

import errno
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from llmops_core.arrival_settings import WatchedPlace
from llmops_core.errors import EnvironmentLacks, InputError, Problem, TransientError
from llmops_core.uris import parse_s3
from resources.outside import retried
from resources.storage.object_store import ChangedMeanwhile, NamedPlace, NotThere

LIMIT_BYTES = 256 * 2**20


class Place(ABC):
    """Where files arrive. Raises TransientError when it cannot be reached, EnvironmentLacks or InputError when a person
    must mend it."""

    @abstractmethod
    def listed(self) -> dict[str, str]:
        """{name: version} of the files directly there. Links and what lies in folders below do not count."""

    @abstractmethod
    def read(self, name: str, version: str) -> bytes | None:
        """The bytes of that version; None when it is gone or another. Raises InputError for more than LIMIT_BYTES."""


class FolderPlace(Place):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def listed(self) -> dict[str, str]:
        try:
            with os.scandir(self.folder) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            todo = "make or mount it, readable for the platform, or take it out of `arrivals`"
            raise EnvironmentLacks(
                f"the watched folder {self.folder} cannot be read ({error.strerror}): {todo}"
            ) from None
        except OSError as error:
            raise TransientError(f"the watched folder {self.folder} cannot be read now: {error.strerror}") from error
        return {name: _version(found_stat) for name, found_stat in found if stat.S_ISREG(found_stat.st_mode)}

    def read(self, name: str, version: str) -> bytes | None:
        try:
            # a pipe under that name must not hold us up, a link must not lead elsewhere
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                found = os.fstat(stream.fileno())
                if _version(found) != version:
                    return None
                _refuse_too_large(name, found.st_size)
                content = stream.read()
                return content if _version(os.fstat(stream.fileno())) == version else None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):  # gone, or a link now
                return None
            raise TransientError(f"{self.folder / name} cannot be read now: {error.strerror}") from error


class BucketPlace(Place):
    """Credentials come from the AWS chain: role, profile or environment."""

    def __init__(self, place: NamedPlace) -> None:
        self.place = place
        self.location = parse_s3(place.uri)
        self.prefix = f"{self.location.prefix}/" if self.location.prefix else ""

    def listed(self) -> dict[str, str]:
        client = self.place.client()
        return retried(lambda: self.place.asked(lambda: self._listed(client)))

    def read(self, name: str, version: str) -> bytes | None:
        client = self.place.client()
        wanted = {"Bucket": self.location.bucket, "Key": f"{self.prefix}{name}"}

        def attempt() -> bytes | None:
            try:
                return self.place.asked(lambda: _fetched(client, wanted, name, version))
            except (ChangedMeanwhile, NotThere):
                return None

        return retried(attempt)

    def _listed(self, client: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        listing = client.get_paginator("list_objects_v2")
        for page in listing.paginate(Bucket=self.location.bucket, Prefix=self.prefix, Delimiter="/"):
            for entry in page.get("Contents", []):
                if name := entry["Key"].removeprefix(self.prefix):
                    found[name] = _object_version(entry)
        return found


def place_of(watched: WatchedPlace) -> Place:
    """The door that an entry of `arrivals` names."""
    if not watched.in_bucket:
        return FolderPlace(Path(watched.place))
    field = f"arrivals {watched.name}: place"
    return BucketPlace(NamedPlace("config", field, watched.place, watched.endpoint, watched.region))


def _version(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"


def _object_version(entry: dict[str, Any]) -> str:
    return f"{entry['ETag'].strip(chr(34))}-{entry['LastModified']:%Y%m%dT%H%M%SZ}"


def _fetched(client: Any, wanted: dict[str, str], name: str, version: str) -> bytes | None:
    etag = version.rpartition("-")[0]
    head = client.head_object(**wanted)
    if _object_version(head) != version:
        return None
    _refuse_too_large(name, head["ContentLength"])
    return client.get_object(**wanted, IfMatch=f'"{etag}"')["Body"].read()


def _refuse_too_large(name: str, size_bytes: int) -> None:
    if size_bytes > LIMIT_BYTES:
        expected = f"at most {LIMIT_BYTES} bytes"
        raise InputError(Problem(name, "", f"{size_bytes} bytes", expected, "the file is too large; split it"))
