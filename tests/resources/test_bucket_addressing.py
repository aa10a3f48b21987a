"""Everything that speaks S3 names a bucket as its store knows it: CoreWeave's by the host alone, MinIO by the path."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_core.uris import addressing_style
from recipes.checkpoint_store import open_store
from resources.data.dvc_pull import addressed
from resources.storage.object_store import NamedPlace
from tests.fakes.s3_servers import CREDENTIALS

STORES = [
    (None, "https://models.s3.amazonaws.com/a/b"),
    ("https://cwobject.com", "https://models.cwobject.com/a/b"),
    ("http://cwlota.com", "http://models.cwlota.com/a/b"),
    ("https://minio.example.com:9000", "https://minio.example.com:9000/models/a/b"),
    ("https://notcwobject.com", "https://notcwobject.com/models/a/b"),
]
stores = pytest.mark.parametrize(("endpoint", "url"), STORES)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**CREDENTIALS, "AWS_CONFIG_FILE": "/nowhere", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)


def asked_of(client: Any, action: Callable[[], Any]) -> str:
    """The address that the client would have sent its request to."""
    sent: list[str] = []

    def answer(request: Any, **_: Any) -> Any:
        sent.append(request.url)
        raise InterruptedError

    client.meta.events.register("before-send.s3", answer)
    with pytest.raises(InterruptedError):
        action()
    return sent[0].split("?")[0]


@stores
def test_the_platform_asked_for_a_bucket_in_a_way_that_its_store_does_not_know(endpoint: str | None, url: str) -> None:
    client = NamedPlace("config/x.yaml", "jobs.store", "s3://models/a", endpoint, "us-east-1").client()
    assert asked_of(client, lambda: client.get_object(Bucket="models", Key="a/b")) == url


@stores
def test_a_checkpoint_was_sent_in_a_way_that_its_store_does_not_know(
    endpoint: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)  # as resources/jobs/job_pod.py tells the recipe
    client = open_store("s3://models/a")._client  # type: ignore[attr-defined]
    assert asked_of(client, lambda: client.put_object(Bucket="models", Key="a/b", Body=b"")) == url


@stores
def test_data_was_fetched_in_a_way_that_its_store_does_not_know(endpoint: str | None, url: str) -> None:
    from dvc_s3 import S3FileSystem

    place = SimpleNamespace(fs=S3FileSystem(url="s3://models/a", endpointurl=endpoint, region="us-east-1"))
    assert addressed(place).fs.fs.url("models/a/b").split("?")[0] == url


def test_a_persons_own_choice_in_the_file_of_aws_was_overruled() -> None:
    fs = SimpleNamespace(protocol="s3", fs_args={"config_kwargs": {"s3": {"addressing_style": "path"}}})
    assert addressed(SimpleNamespace(fs=fs)).fs.fs_args["config_kwargs"]["s3"] == {"addressing_style": "path"}


@pytest.mark.parametrize("odd", ["", "cwobject.com", "https://", "https://cwobject.com.example.com", "https://[::1]"])
def test_an_odd_address_was_taken_for_coreweaves(odd: str) -> None:
    assert addressing_style(odd) == "auto"
