"""An object store in memory, behind the client's methods that this project calls: for simulations of thousands of
requests. It passes the same tests of folders and records as a real server (tests/resources/test_job_transport.py)."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError

from resources.storage.object_store import NamedPlace

STORES: dict[str, "MemoryS3"] = {}


class MemoryPlace(NamedPlace):
    """A place in the memory store whose name is the endpoint."""

    def client(self, credentials: bool = True) -> Any:
        return STORES[str(self.endpoint)]


class MemoryS3:
    """`before` is called with each request's name, and may raise what a network or a kill would. While `down`, nobody
    answers."""

    def __init__(self, name: str) -> None:
        STORES[name] = self
        self.objects: dict[tuple[str, str], bytes] = {}
        self.modified: dict[tuple[str, str], datetime] = {}
        self.down = False
        self.before: Callable[[str], None] = lambda request: None
        self._lock = threading.Lock()

    def put_object(self, Bucket: str, Key: str, Body: Any, IfNoneMatch: str = "", **_: Any) -> dict[str, Any]:  # noqa: N803
        self._meet("put")
        content = Body if isinstance(Body, bytes) else Body.encode() if isinstance(Body, str) else Body.read()
        with self._lock:
            if IfNoneMatch == "*" and (Bucket, Key) in self.objects:
                raise _refused("PreconditionFailed", 412)
            self.objects[Bucket, Key] = content
            self.modified[Bucket, Key] = datetime.now(UTC)
        return {"ETag": _etag(content)}

    def get_object(self, Bucket: str, Key: str, Range: str = "", IfMatch: str = "", **_: Any) -> dict[str, Any]:  # noqa: N803
        self._meet("get")
        content = self.objects.get((Bucket, Key))
        if content is None:
            raise _refused("NoSuchKey", 404)
        if IfMatch and IfMatch.strip('"') != _etag(content).strip('"'):
            raise _refused("PreconditionFailed", 412)
        start = int(Range.removeprefix("bytes=").rstrip("-")) if Range else 0
        return {"Body": _Body(content[start:])}

    def delete_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        self._meet("delete")
        with self._lock:
            self.objects.pop((Bucket, Key), None)
        return {}

    def get_paginator(self, name: str) -> "MemoryS3":
        assert name == "list_objects_v2"
        return self

    def paginate(self, Bucket: str, Prefix: str, **_: Any) -> Iterator[dict[str, Any]]:  # noqa: N803
        self._meet("list")
        with self._lock:
            found = sorted(key for bucket, key in self.objects if bucket == Bucket and key.startswith(Prefix))
        entries = [(key, self.objects[Bucket, key]) for key in found]
        yield {
            "IsTruncated": False,
            "Contents": [
                {"Key": key, "Size": len(body), "ETag": _etag(body), "LastModified": self.modified[Bucket, key]}
                for key, body in entries
            ],
        }

    def _meet(self, request: str) -> None:
        self.before(request)
        if self.down:
            raise EndpointConnectionError(endpoint_url="memory")


class _Body(io.BytesIO):
    def iter_chunks(self, size: int) -> Iterator[bytes]:
        while chunk := self.read(size):
            yield chunk


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _refused(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "request")
