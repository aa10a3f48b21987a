import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from llmops_core.doctor import Health
from llmops_core.errors import InputError
from llmops_core.lifecycle import judge_lifecycle
from resources.storage.bucket_probe import lifecycle_rules, try_bucket
from resources.storage.object_store import NamedPlace
from tests.fakes.ports import free_port
from tests.fakes.s3_servers import CREDENTIALS, moto_server


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with moto_server() as address:
        yield address


def place(uri: str, endpoint: str) -> NamedPlace:
    return NamedPlace("config/x.yaml", "platform.artifacts", uri, endpoint, "us-east-1")


def test_the_trial_left_an_object_or_half_an_upload_behind(endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="tried")
    tried = try_bucket(place("s3://tried/artifacts", endpoint))
    assert tried.refused == dict.fromkeys(("list", "write", "read", "delete", "upload in parts", "end an upload"), "")
    assert tried.skew_seconds is not None and abs(tried.skew_seconds) < 5
    assert "Contents" not in client.list_objects_v2(Bucket="tried")
    assert not client.list_multipart_uploads(Bucket="tried").get("Uploads")


def test_a_bucket_that_is_not_there_was_called_good(endpoint: str) -> None:
    tried = try_bucket(place("s3://nowhere/artifacts", endpoint))
    assert "not there" in tried.refused["list"] and "not there" in tried.refused["write"]
    assert tried.answered and "read" not in tried.refused  # nothing was written that could be read


def test_a_store_that_is_down_was_called_good(endpoint: str) -> None:
    tried = try_bucket(place("s3://models/artifacts", f"http://127.0.0.1:{free_port()}"))
    assert all("could not be reached" in why for why in tried.refused.values())
    assert tried.skew_seconds is None and not tried.answered


def test_the_lifecycle_of_deploy_was_refused_or_not_seen(endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="llmops")
    store = place("s3://llmops/jobs", endpoint)
    assert lifecycle_rules(store) == []
    told = json.loads((Path(__file__).parents[2] / "deploy/object-store/lifecycle.json").read_text())
    client.put_bucket_lifecycle_configuration(Bucket="llmops", LifecycleConfiguration=told)
    found = lifecycle_rules(store)
    assert {each["ID"] for each in found} == {each["ID"] for each in told["Rules"]}
    assert judge_lifecycle("jobs/", found, 86400).verdict is Health.OK
    with pytest.raises(InputError):
        lifecycle_rules(place("s3://nowhere/jobs", endpoint))
