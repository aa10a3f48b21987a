"""What a job says is told whole, once and for certain: whatever its author wrote, and whatever the store answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops_core.errors import TransientError
from resources.jobs.job_hearing import LONGEST_LINE, Hearing
from resources.jobs.job_transport import JobRecords, JobStore
from resources.jobs.jobs import progress_of
from tests.fakes.job_worlds import RecordingRun, RunBook
from tests.fakes.memory_s3 import STORES, MemoryPlace, MemoryS3

FINGERPRINT, POD, JOB = "f" * 64, "pod", "llmops-tiny-a1"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[JobRecords]:
    MemoryS3(tmp_path.name)
    yield JobStore(MemoryPlace("f", "f", "s3://bucket/jobs", tmp_path.name), tmp_path / "cache").job(FINGERPRINT)


def says(records: JobRecords, index: int, content: bytes) -> None:
    name = f"jobs/{FINGERPRINT}/pods/1/{POD}/messages/{index}.json"
    records._store.client.put_object(Bucket="bucket", Key=f"jobs/{name}", Body=content)


def heard(records: JobRecords, progress: list[Any] | None = None, book: RunBook | None = None) -> list[str]:
    book = book or RunBook()
    told: list[Any] = [] if progress is None else progress
    Hearing(records, 1, JOB, "speaks", RecordingRun(book, "run"), told.append, 0).finish([POD])
    return book.messages("run")


def message(method: str = "log", **params: Any) -> bytes:
    return json.dumps({"method": method, "params": params}).encode()


NONE_OF_OURS = {
    "no JSON": b'{"method": "log", "par',
    "no mapping": b"[1, 2]",
    "no method": b"{}",
    "no parameters": b'{"method": "log", "params": 7}',
    "no message": message(),
    "nested without end": b"[" * 100_000,
    "no text": b"\xff\xfe\x00",
    "no figures": message("report_custom_message", payload={"progress": "half"}),
    "a figure that is a word": message("report_custom_message", payload={"progress": {"done": 1, "total": "many"}}),
    "GPUs that are words": message("report_custom_message", payload={"gpu": {"gpu_percent": "all"}}),
    "an exception that is none": message("closed", exception="told"),
}


@pytest.mark.parametrize("name", NONE_OF_OURS)
def test_a_broken_message_kept_everybody_from_the_result(records: JobRecords, name: str) -> None:
    progress: list[Any] = []
    report = {"progress": {"done": 1, "total": 2, "loss": 0.5}}
    says(records, 1, NONE_OF_OURS[name] + b"\n" + message(message="after it"))
    says(records, 2, message("report_custom_message", payload=report))
    told = heard(records, progress)
    assert "after it" in told[0] and told[1] == "speaks 1/2, loss 0.5"
    assert progress == [{"done": 1, "total": 2, "loss": 0.5}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda each: (
            st.lists(each)
            | st.dictionaries(
                st.sampled_from(["method", "params", "payload", "progress", "done", "total", "gpu", "x"]), each
            )
        ),
    )
)
def test_some_json_kept_everybody_from_the_result(records: JobRecords, found: Any) -> None:
    says(records, 1, json.dumps(found).encode())
    assert len(heard(records)) == 1


def test_a_store_that_could_not_answer_was_taken_for_the_end_of_what_was_said(
    records: JobRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.outside.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("resources.storage.s3_folder.FIRST_PAUSE_SECONDS", 0.001)
    says(records, 1, message(message="first"))
    says(records, 2, message(message="the last word"))
    store, book = STORES[str(records._store.place.endpoint)], RunBook()
    read, answers = store.get_object, [False]

    def busy(**asked: Any) -> Any:
        if asked["Key"].endswith("messages/2.json") and not answers[0]:
            raise ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "get")
        return read(**asked)

    monkeypatch.setattr(store, "get_object", busy)
    with pytest.raises(TransientError):
        heard(records, book=book)
    answers[0] = True
    assert heard(records, book=book) == ["first", "the last word"], "a word was lost or repeated"


def test_an_endless_line_became_an_endless_event(records: JobRecords) -> None:
    says(records, 1, message(message="x" * 200_000))
    (told,) = heard(records)
    assert len(told) < LONGEST_LINE + 100 and told.endswith("(140000 characters more)")


def test_what_is_no_report_of_progress_was_taken_for_one() -> None:
    assert progress_of({"progress": {"done": 1, "total": 2, "seconds_left": None, "note": "x"}}) == {
        "done": 1,
        "total": 2,
    }
    assert [progress_of(each) for each in (None, 7, {}, {"progress": None}, {"progress": {"done": 1}})] == [None] * 5
