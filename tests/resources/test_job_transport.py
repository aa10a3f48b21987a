"""What door and pod exchange: whole or not at all, the first word stands, and nothing leaves its folder."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from llmops_core.errors import IntegrityError
from llmops_core.job_outcomes import End, Outcome
from resources.jobs.job_transport import CODE, CODE_FILE, INPUT, JobStore
from resources.storage.object_store import NamedPlace
from tests.fakes.memory_s3 import MemoryPlace, MemoryS3

FINGERPRINT = "f" * 64


@pytest.fixture(params=["server", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, s3_address: str) -> Iterator[JobStore]:
    if request.param == "memory":
        MemoryS3(str(tmp_path))
        yield JobStore(MemoryPlace("f", "f", "s3://bucket/jobs", str(tmp_path)), tmp_path / "cache")
        return
    boto3.client("s3", endpoint_url=s3_address).create_bucket(Bucket="exchange")
    place = NamedPlace("f", "f", f"s3://exchange/{tmp_path.name}", s3_address, "us-east-1")
    yield JobStore(place, tmp_path / "cache")


def folder(root: Path) -> Path:
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "rows.txt").write_text("rows")
    (root / "a.txt").write_text("a")
    return root


def test_a_folder_arrived_changed(store: JobStore, tmp_path: Path) -> None:
    digest = store.send(INPUT, folder(tmp_path / "sent"))
    assert store.send(INPUT, tmp_path / "sent") == digest
    there = JobStore(store.place, tmp_path / "elsewhere").fetch(INPUT, digest)
    assert (there / "deep" / "rows.txt").read_text() == "rows" and (there / "a.txt").read_text() == "a"
    with pytest.raises(IntegrityError, match="gone"):
        store.fetch(INPUT, "0" * 64)


def test_the_same_code_was_sent_twice(store: JobStore, tmp_path: Path) -> None:
    """As another folder, made later, with byte code beside it."""
    first = store.send_code(folder(tmp_path / "one"), tmp_path / "scratch1")
    (folder(tmp_path / "two") / "__pycache__").mkdir()
    (tmp_path / "two" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert store.send_code(tmp_path / "two", tmp_path / "scratch2") == first
    store.fetch_code(first, tmp_path / "unpacked")
    assert sorted(path.name for path in (tmp_path / "unpacked").rglob("*")) == ["a.txt", "deep", "rows.txt"]


def test_code_was_unpacked_over_files_of_the_pod(store: JobStore, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    with tarfile.open(bad / CODE_FILE, "w") as archive:
        archive.add(__file__, "../outside.py")
    digest = store.send(CODE, bad)
    with pytest.raises(tarfile.OutsideDestinationError):
        store.fetch_code(digest, tmp_path / "unpacked")


def test_a_second_writer_changed_what_the_first_wrote(store: JobStore) -> None:
    records = store.job(FINGERPRINT)
    assert records.intend(1, {"memory_gb": 32}) == {"memory_gb": 32}
    assert records.intend(1, {"memory_gb": 64}) == {"memory_gb": 32}
    records.ended(1, End(Outcome.PREEMPTED, "why"), run_id="one")
    assert records.ended(1, End(Outcome.CRASHED, "other"), run_id="two")["outcome"] == "preempted"
    records.publish_result({"folder": "a"})
    records.publish_result({"folder": "b"})
    assert records.result() == {"folder": "a"}


def test_attempts_were_forgotten_or_out_of_order(store: JobStore) -> None:
    records = store.job(FINGERPRINT)
    assert records.attempts() == [] and records.result() is None
    for number in (2, 10, 1):
        records.intend(number, {"memory_gb": number})
    records.ended(1, End(Outcome.OUT_OF_MEMORY, "why"), run_id="run")
    found = records.attempts()
    assert [each.number for each in found] == [1, 2, 10] and [each.end is None for each in found] == [False, True, True]
    assert found[0].past.outcome is Outcome.OUT_OF_MEMORY and found[0].past.run_id == "run"


def test_what_a_pod_said_was_lost(store: JobStore) -> None:
    records = store.job(FINGERPRINT)
    said = {"a": {"exit_code": 0}, "b": {"exit_code": 9}}
    for pod, words in said.items():
        records.put_log(1, pod, 1, b"words")
        records.say(1, pod, words)
    assert records.log(1, "a", 1) == b"words" and records.log(1, "a", 2) is None
    assert records.pods(1) == ["a", "b"] and records.pods(2) == []
    assert records.said(1) == said and records.said(2) == {}


def test_a_folder_that_the_lifecycle_took_half_of_was_refused_for_ever(store: JobStore, tmp_path: Path) -> None:
    digest = store.send(INPUT, folder(tmp_path / "sent"))
    key = f"{store.prefix}folders/{INPUT}/{digest}/deep/rows.txt"
    store.client.delete_object(Bucket=store.bucket, Key=key)
    with pytest.raises(IntegrityError):
        JobStore(store.place, tmp_path / "elsewhere").fetch(INPUT, digest)
    assert store.send(INPUT, tmp_path / "sent") == digest
    there = JobStore(store.place, tmp_path / "elsewhere").fetch(INPUT, digest)
    assert (there / "deep" / "rows.txt").read_text() == "rows"


def test_the_checkpoints_of_a_job_that_is_done_stayed_or_took_others_along(store: JobStore) -> None:
    records, other = store.job(FINGERPRINT), store.job("e" * 64)
    for job in (records, other):
        place = job.checkpoints.removeprefix(f"s3://{store.bucket}/")
        for file in ("state.safetensors", "manifest.json"):
            store.client.put_object(Bucket=store.bucket, Key=f"{place}/00000001-aaaaaaaa/{file}", Body=b"x")
    records.publish_result({"folder": "d"})
    records.forget_checkpoints()
    left = store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=store.prefix)
    keys = [each["Key"].removeprefix(store.prefix) for page in left for each in page.get("Contents", ())]
    assert sorted(keys) == [
        f"jobs/{'e' * 64}/checkpoints/00000001-aaaaaaaa/manifest.json",
        f"jobs/{'e' * 64}/checkpoints/00000001-aaaaaaaa/state.safetensors",
        f"jobs/{FINGERPRINT}/result.json",
    ]
