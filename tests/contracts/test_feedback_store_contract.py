"""What every store of ratings keeps: a folder, and a bucket of a simulated S3 server."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_core.errors import InputError, IntegrityError, TransientError
from llmops_core.ratings import Rating
from resources.data.feedback_store import FeedbackStore, FolderFeedback, S3Feedback
from resources.storage.object_store import NamedPlace
from tests.fakes.s3_servers import CREDENTIALS, moto_server

ONE, TWO = Rating("Größe?", "zwei\nZeilen\u2028", 1, "eine", "2", "d" * 64, True), Rating("Why?", "so", 5)
BUCKET = "ratings"
_numbers = itertools.count()
Opened = Callable[[], FeedbackStore]


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, Any]]:
    with moto_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        client = NamedPlace("config/local.yaml", "platform.feedback.uri", f"s3://{BUCKET}", endpoint).client()
        client.create_bucket(Bucket=BUCKET)
        yield endpoint, client


@pytest.fixture(params=["folder", "bucket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens one store, as each of several pods would."""
    if request.param == "folder":
        return lambda: FolderFeedback(tmp_path / "feedback")
    endpoint, _ = request.getfixturevalue("bucket")
    uri = f"s3://{BUCKET}/runs/{next(_numbers)}"
    return lambda: S3Feedback(NamedPlace("config/local.yaml", "platform.feedback.uri", uri, endpoint))


def test_another_pod_did_not_see_what_was_rated_or_counted_it_twice(opened: Opened) -> None:
    first = opened().submit("tiny", [ONE, TWO])
    again = opened().submit("tiny", [ONE, TWO])
    opened().submit("other", [TWO])
    assert opened().ratings("tiny") == [ONE, TWO]
    assert (first.repeated, again.repeated, again.place) == (False, True, first.place)
    assert opened().ratings("nobody") == []


def test_a_store_that_was_moved_lost_or_changed_a_submission(opened: Opened, tmp_path: Path) -> None:
    source, target = opened(), FolderFeedback(tmp_path / "moved")
    for model, ratings in (("tiny", [ONE]), ("tiny", [TWO]), ("other", [TWO])):
        source.submit(model, ratings)
    for store, into in ((source, target), (target, opened())):
        for model, name in store.submissions():
            into.restore(model, name, store.submitted(model, name))
    assert target.submissions() == source.submissions() and len(source.submissions()) == 3
    assert sorted(target.ratings("tiny"), key=str) == sorted([ONE, TWO], key=str)
    with pytest.raises(IntegrityError, match="is not what was submitted"):
        opened().restore("tiny", target.submissions()[0][1], b"other")
    with pytest.raises(InputError, match="no such model"):
        opened().submit("../tiny", [ONE])


def test_a_changed_object_was_believed(bucket: tuple[str, Any]) -> None:
    endpoint, client = bucket
    store = S3Feedback(NamedPlace("config/local.yaml", "platform.feedback.uri", f"s3://{BUCKET}/changed", endpoint))
    place = store.submit("tiny", [ONE]).place
    key = place.removeprefix(f"s3://{BUCKET}/")
    client.put_object(Bucket=BUCKET, Key=key, Body=b"{}\n")
    with pytest.raises(IntegrityError, match="not what was submitted"):
        store.ratings("tiny")


def test_a_store_that_does_not_answer_had_no_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.storage.s3_folder.FIRST_PAUSE_SECONDS", 0)
    store = S3Feedback(NamedPlace("config/local.yaml", "platform.feedback.uri", "s3://bucket/y", "http://127.0.0.1:9"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TransientError, match="could not be reached"):
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        store.ratings("tiny")
