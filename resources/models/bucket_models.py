"""Base models from an S3-compatible object store. A prefix is no version, so what was read is recorded by SHA-256.

Each object is read with `If-Match` on the ETag that was listed, so that nobody can exchange it in between; an ETag
that is an MD5 (single-part, unencrypted) is checked too.
"""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

from llmops_core.errors import EnvironmentLacks, IntegrityError
from llmops_core.training_spec import S3Source
from llmops_core.uris import S3Location, parse_s3
from resources.models.model_folder import is_model_file
from resources.outside import retried
from resources.storage.object_store import NamedPlace

CHUNK_BYTES = 2**20


def download(source: S3Source, folder: Path, credentials: bool) -> dict[str, str]:
    """Write the model's files to the folder; {name: ETag}.

    Requests are signed only where `credentials` says so. Raises InputError, TransientError, IntegrityError, or
    EnvironmentLacks when the disk is too small.
    """
    location = parse_s3(source.uri)
    place = NamedPlace("model.yaml", "source.uri", source.uri, source.endpoint)
    client = place.client(credentials)
    listed = retried(lambda: place.asked(lambda: _listed(client, location)))
    needed, free = sum(size for _, size in listed.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise EnvironmentLacks(f"{source.uri} needs {needed} bytes, but {folder} has {free} left")
    for name, (etag, _) in listed.items():
        key = f"{location.prefix}/{name}" if location.prefix else name
        wanted = {"Bucket": location.bucket, "Key": key, "IfMatch": etag}
        retried(lambda wanted=wanted, name=name: place.asked(lambda: _fetched(client, wanted, folder / name)))
    return {name: etag.strip('"') for name, (etag, _) in listed.items()}


def _listed(client: Any, location: S3Location) -> dict[str, tuple[str, int]]:
    """{file name: (ETag, bytes)} of the model's files directly below the prefix."""
    prefix = f"{location.prefix}/" if location.prefix else ""
    found: dict[str, tuple[str, int]] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            name = entry["Key"].removeprefix(prefix)
            if is_model_file(name):
                found[name] = (entry["ETag"], entry["Size"])
    return dict(sorted(found.items()))


def _fetched(client: Any, wanted: dict[str, str], place: Path) -> None:
    response = client.get_object(**wanted)
    md5, size = hashlib.md5(usedforsecurity=False), 0
    with place.open("wb") as stream:
        for chunk in response["Body"].iter_chunks(CHUNK_BYTES):
            md5.update(chunk)
            size += stream.write(chunk)
    plain = wanted["IfMatch"].strip('"')
    is_md5 = re.fullmatch(r"[0-9a-f]{32}", plain) and response.get("ServerSideEncryption") in (None, "AES256")
    if size != response["ContentLength"] or (is_md5 and md5.hexdigest() != plain):
        found = f"{size} bytes with MD5 {md5.hexdigest()}"
        raise IntegrityError(f"{wanted['Key']} in {wanted['Bucket']} is {found}, the store says {plain}")
