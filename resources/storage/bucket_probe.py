"""Trying a folder of a bucket with an object of our own, which is gone again afterwards."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from llmops_core.errors import InputError, LlmopsError
from llmops_core.uris import parse_s3
from resources.storage.object_store import NamedPlace


@dataclass(frozen=True)
class Tried:
    """`refused`: {operation: why it failed, or nothing}. `skew_seconds`: how far this machine's clock is ahead of the
    store's; None where the store did nothing of it. `answered`: whether it was heard, if only with a refusal."""

    refused: dict[str, str]
    skew_seconds: float | None
    answered: bool


def try_bucket(place: NamedPlace) -> Tried:
    """Lists, writes, reads and deletes, and begins and ends an upload in parts. What cannot be tried after a refusal is
    left out: where nothing was written there is nothing to read."""
    location, client = parse_s3(place.uri), place.client()
    key = "/".join(part for part in (location.prefix, f"llmops-doctor-{uuid.uuid4().hex}") if part)
    asked = {"Bucket": location.bucket, "Key": key}
    trial = _Trial(place)
    listed = {"Bucket": location.bucket, "Prefix": location.prefix, "MaxKeys": 1}
    trial.run("list", lambda: client.list_objects_v2(**listed))
    if trial.run("write", lambda: client.put_object(**asked, Body=b"")) is not None:
        trial.run("read", lambda: client.get_object(**asked))
        trial.run("delete", lambda: client.delete_object(**asked))
        if upload := trial.run("upload in parts", lambda: client.create_multipart_upload(**asked)):
            parts = {**asked, "UploadId": upload["UploadId"]}
            trial.run("end an upload", lambda: client.abort_multipart_upload(**parts))
    return Tried(trial.refused, trial.skew_seconds, trial.answered)


def lifecycle_rules(place: NamedPlace) -> list[dict[str, Any]]:
    """Of the bucket; none where nobody made any. Raises InputError where they may not be read."""
    from botocore.exceptions import ClientError

    client, bucket = place.client(), parse_s3(place.uri).bucket

    def ask() -> list[dict[str, Any]]:
        try:
            return client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchLifecycleConfiguration":
                return []
            raise

    return place.asked(ask)


class _Trial:
    def __init__(self, place: NamedPlace) -> None:
        self._place = place
        self.refused: dict[str, str] = {}
        self.skew_seconds: float | None = None
        self.answered = False

    def run(self, operation: str, action: Callable[[], Any]) -> Any:
        """The answer, or None where it was refused."""
        before = time.time()
        try:
            answer = self._place.asked(action)
        except LlmopsError as error:
            self.refused[operation] = error.problems[0].message if isinstance(error, InputError) else str(error)
            self.answered |= isinstance(error, InputError)
            return None
        self.refused[operation], self.answered = "", True
        if date := answer["ResponseMetadata"]["HTTPHeaders"].get("date"):
            # whole seconds, cut off: half of one is the best guess
            self.skew_seconds = (before + time.time()) / 2 - parsedate_to_datetime(date).timestamp() - 0.5
        return answer
