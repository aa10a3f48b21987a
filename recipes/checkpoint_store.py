"""Where checkpoints lie: a folder, or a prefix of an S3-compatible store. Each is a few files under a name of its own.

A machine may vanish in the middle of a write, so a name alone proves nothing: the content is written first and the
manifest, which has the content's digests, last. Nothing is written over: a process believed dead may still be writing.
Credentials, region and address of the store come from the environment, as boto3 reads them (AWS_ENDPOINT_URL, …).
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from llmops_core.errors import EnvironmentLacks, InputError, Problem, TransientError
from llmops_core.uris import UnsafeUri, addressing_style, parse_s3

MANIFEST = "manifest.json"
REFUSED = {"NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403"}
ABSENT = {"NoSuchKey", "404"}

Result = TypeVar("Result")


class StoreFails(TransientError):
    """The store did not answer, or not in time."""


class CheckpointStore(ABC):
    @abstractmethod
    def names(self) -> list[str]:
        """The names of all checkpoints, begun or whole, in alphabetical order."""

    @abstractmethod
    def read(self, name: str, file: str, to: Path) -> bool:
        """Copy a checkpoint's file to `to`; False if there is no such file."""

    @abstractmethod
    def write(self, name: str, files: Mapping[str, Path]) -> None:
        """Copy these files, in their order."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Forget a checkpoint, its manifest first."""


class FolderStore(CheckpointStore):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        return sorted(each.name for each in self._folder.iterdir()) if self._folder.is_dir() else []

    def read(self, name: str, file: str, to: Path) -> bool:
        source = self._folder / name / file
        if source.is_file():
            shutil.copyfile(source, to)
        return source.is_file()

    def write(self, name: str, files: Mapping[str, Path]) -> None:
        try:
            for file, source in files.items():
                place = self._folder / name / file
                place.parent.mkdir(parents=True, exist_ok=True)
                with source.open("rb") as content, place.with_name(f"{file}.partial").open("wb") as copy:
                    shutil.copyfileobj(content, copy, 2**20)
                    copy.flush()
                    os.fsync(copy.fileno())  # else a crashed machine could keep the manifest and lose the content
                place.with_name(f"{file}.partial").replace(place)
        except OSError as error:
            raise StoreFails(f"cannot write the checkpoint to {self._folder}: {error}") from error

    def remove(self, name: str) -> None:
        (self._folder / name / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._folder / name, ignore_errors=True)


class S3Store(CheckpointStore):
    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config

        # Checksums of the transfer are left out where they are optional: not every S3-compatible store takes them, and
        # the manifest's are checked anyway.
        config = Config(
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=10,
            read_timeout=60,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": addressing_style(_endpoint(os.environ))},
        )
        self._client: Any = boto3.client("s3", config=config)
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""

    def names(self) -> list[str]:
        found: list[str] = []
        pages = self._client.get_paginator("list_objects_v2")
        asked = pages.paginate(Bucket=self._bucket, Prefix=self._prefix, Delimiter="/")
        for page in self._asked(lambda: list(asked)):
            found += [each["Prefix"].removeprefix(self._prefix).rstrip("/") for each in page.get("CommonPrefixes", ())]
        return sorted(found)

    def read(self, name: str, file: str, to: Path) -> bool:
        def download() -> bool:
            self._client.download_file(self._bucket, self._key(name, file), str(to))
            return True

        return self._asked(download, absent=False)

    def write(self, name: str, files: Mapping[str, Path]) -> None:
        for file, source in files.items():
            key = self._key(name, file)
            self._asked(lambda source=source, key=key: self._client.upload_file(str(source), self._bucket, key))

    def remove(self, name: str) -> None:
        self._asked(lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key(name, MANIFEST)))
        listed = self._asked(lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._key(name, "")))
        for each in listed.get("Contents", ()):
            self._asked(lambda key=each["Key"]: self._client.delete_object(Bucket=self._bucket, Key=key))

    def _key(self, name: str, file: str) -> str:
        return f"{self._prefix}{name}/{file}"

    def _asked(self, action: Callable[[], Result], absent: Result | None = None) -> Result:
        """Do it. Raises EnvironmentLacks for what a person must mend, else StoreFails."""
        from boto3.exceptions import Boto3Error
        from botocore import exceptions

        where = f"s3://{self._bucket}/{self._prefix}"
        try:
            return action()
        except exceptions.NoCredentialsError as error:
            raise EnvironmentLacks(f"checkpoints at {where}: no credentials in the environment") from error
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in ABSENT and absent is not None:
                return absent
            kind = EnvironmentLacks if code in REFUSED else StoreFails
            raise kind(f"checkpoints at {where}: {error}") from error
        except (exceptions.BotoCoreError, Boto3Error) as error:
            raise StoreFails(f"checkpoints at {where}: {error}") from error


def _endpoint(environ: Mapping[str, str]) -> str | None:
    """Of the store, where boto3 finds it."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")


def open_store(address: str) -> CheckpointStore:
    """The store at a path or an s3:// address. Raises InputError for any other address."""
    try:
        if not address.startswith("s3://"):
            if "://" in address:
                raise UnsafeUri("it is neither a path nor s3://bucket/prefix")
            return FolderStore(Path(address))
        place = parse_s3(address)
    except UnsafeUri as error:
        problem = Problem("environment", "LLMOPS_CHECKPOINTS", address, "a path or s3://bucket/prefix", str(error))
        raise InputError(problem) from error
    return S3Store(place.bucket, place.prefix)
