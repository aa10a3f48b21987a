"""One folder of a bucket: listing it, sending files into it and reading them back, each byte proven on the way.

What is sent carries its MD5, so a store that received other bytes refuses them. A file larger than a part goes in
parts; when the sender dies, the next one finds the unfinished upload and sends only what is missing. What is read is
read of the object that was listed (`If-Match`), and goes on where a dropped connection broke off.

An object's ETag is the MD5 of its bytes, or of its parts' MD5s, unless the store encrypts with a key of its customer:
equal ETags prove equal bytes against accidents, unequal ones prove nothing.
"""

import hashlib
import math
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from llmops_core.errors import TransientError
from llmops_core.uris import parse_s3
from resources.outside import ATTEMPTS, FIRST_PAUSE_SECONDS
from resources.storage.object_store import ChangedMeanwhile, NamedPlace, NotThere

Result = TypeVar("Result")

PART_BYTES = 64 * 2**20
MOST_PARTS = 10_000  # of one upload, by the S3 API
CHUNK_BYTES = 2**20
PARTS_AT_ONCE = 4


@dataclass(frozen=True)
class Stored:
    """An object as it was listed; `etag` is without its quotation marks, `modified` in seconds since 1970."""

    key: str
    size_bytes: int
    etag: str
    modified: float


class S3Folder:
    """Names are relative to the folder that `place` names. All methods raise InputError for what a person must mend
    and TransientError for a store that does not answer; short outages are waited for."""

    def __init__(self, place: NamedPlace, part_bytes: int = PART_BYTES) -> None:
        self._place, self._part_bytes = place, part_bytes
        location = parse_s3(place.uri)
        self._bucket, self._prefix = location.bucket, f"{location.prefix}/" if location.prefix else ""

    @cached_property
    def _client(self) -> Any:
        return self._place.client()

    def listed(self, below: str) -> dict[str, Stored]:
        """{name relative to `below`: object} of everything in that folder. Raises NotThere for a missing bucket."""
        prefix = f"{self._prefix}{below}/" if below else self._prefix

        def pages() -> dict[str, Stored]:
            found: dict[str, Stored] = {}
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                if "IsTruncated" not in page:  # botocore takes an answer that was cut off for an empty one
                    raise TransientError(f"{self._place.endpoint or 'S3'} broke off the listing of {prefix}")
                for entry in page.get("Contents", []):
                    etag, modified = entry["ETag"].strip('"'), entry["LastModified"].timestamp()
                    stored = Stored(entry["Key"], entry["Size"], etag, modified)
                    found[entry["Key"].removeprefix(prefix)] = stored
            return found

        return self._asked(pages)

    def chunks(self, stored: Stored) -> Iterator[bytes]:
        """The object's bytes in order. Raises ChangedMeanwhile or NotThere if it is not the one that was listed."""
        done, failures = 0, 0
        while done < stored.size_bytes:
            try:
                for chunk in self._from(stored, done):
                    done, failures = done + len(chunk), 0
                    yield chunk
            except ChangedMeanwhile:
                raise
            except TransientError:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                time.sleep(FIRST_PAUSE_SECONDS * 2**failures)

    def content(self, stored: Stored) -> bytes:
        return b"".join(self.chunks(stored))

    def read(self, name: str) -> bytes:
        """A small object's bytes. Raises NotThere where there is none."""
        return self._asked(lambda: self._client.get_object(**self._named(self._prefix + name))["Body"].read())

    def send(self, name: str, file: Path, there: Stored | None = None) -> None:
        """Make the file's bytes the object `name`, unless it is `there` already by size and ETag."""
        size = file.stat().st_size
        if there is not None and there.size_bytes == size and there.etag == self.etag_of(file):
            return
        key = self._prefix + name
        if size > self._part_bytes:
            self._send_large(key, file, size)
            return
        content = file.read_bytes()
        self._asked(lambda: self._client.put_object(**self._named(key), Body=content, ContentMD5=_md5_text(content)))

    def put_new(self, name: str, content: bytes) -> bool:
        """Whether the object was made; False where one of this name is there, which stays as it is.

        A store that does not know conditions overwrites: callers write only what follows from the name.
        """
        wanted = {**self._named(self._prefix + name), "Body": content, "ContentMD5": _md5_text(content)}
        return self._asked(lambda: _put_new(self._client, wanted))

    def remove(self, name: str) -> None:
        """The object is gone afterwards, whether it was there or not."""
        self._asked(lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name))

    def etag_of(self, file: Path) -> str:
        """The ETag that this file gets when it is sent from here."""
        size = file.stat().st_size
        if size <= self._part_bytes:
            return _md5(file.read_bytes()).hex()
        sums = [_md5(_slice(file, offset, length)) for offset, length in self._parts(size)]
        return f"{_md5(b''.join(sums)).hex()}-{len(sums)}"

    def _from(self, stored: Stored, offset: int) -> Iterator[bytes]:
        wanted = {"Bucket": self._bucket, "Key": stored.key, "IfMatch": stored.etag, "Range": f"bytes={offset}-"}
        body = self._place.asked(lambda: self._client.get_object(**wanted))["Body"]
        stream = body.iter_chunks(CHUNK_BYTES)
        while chunk := self._place.asked(lambda: next(stream, b"")):
            yield chunk

    def _send_large(self, key: str, file: Path, size: int) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._send_in_parts(key, file, size)
                return
            except ChangedMeanwhile:  # another sender of these bytes ended the upload that both had found
                if self._holds(key) == (size, self.etag_of(file)):
                    return
        raise TransientError(f"{key} could not be sent to {self._place.uri}: its uploads are ended by others")

    def _send_in_parts(self, key: str, file: Path, size: int) -> None:
        upload = self._asked(lambda: self._unfinished(key)) or self._asked(lambda: self._begun(key))
        named = {**self._named(key), "UploadId": upload}
        there = self._asked(_if_open(lambda: self._parts_there(named)))

        def part(number: int, offset: int, length: int) -> dict[str, object]:
            content = _slice(file, offset, length)
            etag = _md5(content).hex()
            if there.get(number) != (length, etag):
                wanted = {**named, "PartNumber": number, "Body": content, "ContentMD5": _md5_text(content)}
                etag = self._asked(_if_open(lambda: self._client.upload_part(**wanted)))["ETag"].strip('"')
            return {"PartNumber": number, "ETag": etag}

        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            parts = list(pool.map(lambda each: part(*each), [(n, *at) for n, at in enumerate(self._parts(size), 1)]))
        whole = {**named, "MultipartUpload": {"Parts": parts}}
        self._asked(_if_open(lambda: self._client.complete_multipart_upload(**whole)))

    def _unfinished(self, key: str) -> str | None:
        """The upload of this object that somebody began last. Two senders of the same bytes may well share it."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=key)
        found = [each for page in pages for each in page.get("Uploads", []) if each["Key"] == key]
        return max(found, key=lambda each: each["Initiated"])["UploadId"] if found else None

    def _holds(self, key: str) -> tuple[int, str] | None:
        try:
            found = self._asked(lambda: self._client.head_object(**self._named(key)))
        except NotThere:
            return None
        return found["ContentLength"], found["ETag"].strip('"')

    def _begun(self, key: str) -> str:
        return self._client.create_multipart_upload(**self._named(key))["UploadId"]

    def _parts_there(self, named: dict[str, str]) -> dict[int, tuple[int, str]]:
        pages = self._client.get_paginator("list_parts").paginate(**named)
        parts = [each for page in pages for each in page.get("Parts", [])]
        return {each["PartNumber"]: (each["Size"], each["ETag"].strip('"')) for each in parts}

    def _parts(self, size: int) -> list[tuple[int, int]]:
        """(offset, length) of each part: the same for every sender, so that one can go on where another stopped."""
        length = max(self._part_bytes, math.ceil(size / MOST_PARTS / 2**20) * 2**20)
        return [(offset, min(length, size - offset)) for offset in range(0, size, length)]

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": key}

    def _asked(self, action: Callable[[], Result]) -> Result:
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._place.asked(action)
            except ChangedMeanwhile:
                raise
            except TransientError:
                time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        return self._place.asked(action)


def _put_new(client: Any, wanted: dict[str, Any]) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.put_object(**wanted, IfNoneMatch="*")
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code == "PreconditionFailed":
            return False
        if code != "NotImplemented":
            raise
        client.put_object(**wanted)
    return True


def _if_open(action: Callable[[], Result]) -> Callable[[], Result]:
    """The action on an upload; ChangedMeanwhile where there is no such upload any more."""
    from botocore.exceptions import ClientError

    def asked() -> Result:
        try:
            return action()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchUpload":
                raise ChangedMeanwhile("the upload was ended by another sender") from None
            raise

    return asked


def _slice(file: Path, offset: int, length: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _md5_text(content: bytes) -> str:
    return b64encode(_md5(content)).decode()
