"""Files of runs go from the platform to the store, past the server: that it answers says nothing of them."""

from collections.abc import Iterator

import boto3
import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError

from llmops_core.errors import InputError, LlmopsError, TransientError
from resources.registry.mlflow_errors import mlflow_errors
from resources.registry.registry_probe import try_files
from tests.fakes.ports import free_port
from tests.fakes.s3_servers import CREDENTIALS, moto_server


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture(autouse=True)
def told(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CREDENTIALS, "AWS_MAX_ATTEMPTS": "1", "MLFLOW_S3_ENDPOINT_URL": store}.items():
        monkeypatch.setenv(name, value)


def test_the_trial_left_a_file_behind(store: str) -> None:
    client = boto3.client("s3", endpoint_url=store)
    client.create_bucket(Bucket="tried")
    try_files("s3://tried/mlflow/0")
    assert "Contents" not in client.list_objects_v2(Bucket="tried")


def test_a_bucket_that_is_not_there_was_an_outage_or_a_vendors_error() -> None:
    with pytest.raises(InputError, match="NoSuchBucket"):
        try_files("s3://nowhere/mlflow/0")


def test_a_store_that_nobody_named_was_asked_for_ever_or_a_vendors_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError, match="store of files could not be reached"):
        try_files("s3://tried/mlflow/0")


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (EndpointConnectionError(endpoint_url="https://store.example.com"), TransientError),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject"), InputError),
        (ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"), TransientError),
        (
            S3UploadFailedError("Failed to upload a: An error occurred (AccessDenied) when calling PutObject"),
            InputError,
        ),
        (S3UploadFailedError("Failed to upload a: An error occurred (InternalError)"), TransientError),
    ],
)
def test_an_error_of_the_registrys_store_was_nobodys(raised: Exception, meant: type[LlmopsError]) -> None:
    with (
        pytest.raises(meant, match=r"logging to run 1: .*store of files|the store of the registry's files"),
        mlflow_errors("logging to run 1"),
    ):
        raise raised
