"""Models from an S3 server: what was listed is what is read, and each answer says who acts."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from model_samples import LISTED, WANTED, model_files, names, nothing_left

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, TransientError
from llmops_core.training_spec import S3Source
from resources.models import bucket_models
from resources.models.model_source import fetch_base


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "base"


@pytest.fixture
def bucket(s3_address, no_pauses):
    import boto3

    client = boto3.client("s3", endpoint_url=s3_address)
    client.create_bucket(Bucket="models")
    for name, content in model_files().items():
        client.put_object(Bucket="models", Key=f"tiny/v1/{name}", Body=content)
    client.put_object(Bucket="models", Key="tiny/v1/deeper/config.json", Body=b"{}")
    client.put_object(Bucket="models", Key="tiny/v10/config.json", Body=b"{}")
    return client


def from_s3(address: str, target: Path, uri: str = "s3://models/tiny/v1/") -> None:
    source = S3Source.model_validate({"type": "s3", "uri": uri, "endpoint": address}, context=LISTED)
    fetch_base(source, target, None, "", ("127.0.0.1",))


def test_a_model_comes_from_an_object_store(bucket, s3_address, target):
    from_s3(s3_address, target)
    assert names(target) == WANTED
    origin = json.loads((target / "origin.json").read_bytes())
    config = origin["files"][0]
    assert config["announced"] == hashlib.md5(model_files()["config.json"]).hexdigest()
    assert config["sha256"] == hashlib.sha256(model_files()["config.json"]).hexdigest()


@pytest.mark.parametrize(
    ("uri", "words"), [("s3://missing/tiny", "NoSuchBucket"), ("s3://models/nowhere", "no safetensors")]
)
def test_a_bucket_or_folder_that_is_not_there(bucket, s3_address, target, uri, words):
    with pytest.raises(InputError, match=words):
        from_s3(s3_address, target, uri)
    assert nothing_left(target)


def test_an_object_exchanged_while_it_is_read_is_not_mixed_in(bucket, s3_address, target, monkeypatch):

    listed = bucket_models._listed

    def changed_after(client, location):
        found = listed(client, location)
        return {name: ('"' + "0" * 32 + '"', size) for name, (_, size) in found.items()}

    monkeypatch.setattr(bucket_models, "_listed", changed_after)
    with pytest.raises(TransientError, match="was changed while it was read"):
        from_s3(s3_address, target)
    assert nothing_left(target)


def test_a_store_that_is_down_and_one_that_refuses(target, bucket, s3_address, monkeypatch):
    with pytest.raises(TransientError, match="could not be reached"):
        from_s3("http://127.0.0.1:9", target)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(InputError, match="AWS chain"):
        from_s3(s3_address, target)
    assert nothing_left(target)


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", InputError, "AWS chain"),
        (503, "SlowDown", TransientError, "cannot answer now"),
        (500, "InternalError", TransientError, "cannot answer now"),
        (400, "InvalidRequest", InputError, "refuses the request"),
    ],
)
def test_each_answer_of_a_store_says_who_acts(hub, target, bucket, status, code, error, words):
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    hub.answer = lambda *_: (status, {"Content-Type": "application/xml"}, body)
    with pytest.raises(error, match=words):
        from_s3(f"http://{hub.host}", target)


def test_bytes_that_are_not_their_etag_are_refused(hub, target, bucket):
    listing = (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents><Key>tiny/v1/config.json</Key>'
        f'<ETag>"{"0" * 32}"</ETag><Size>2</Size></Contents></ListBucketResult>'
    )
    hub.answer = lambda path, _: (200, {}, b"{}" if path.endswith(".json") else listing.encode())
    with pytest.raises(IntegrityError, match="the store says 0000"):
        from_s3(f"http://{hub.host}", target)
    assert nothing_left(target)


def test_a_store_without_room_for_it(bucket, s3_address, target, monkeypatch):

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(EnvironmentLacks, match="has 3 left"):
        from_s3(s3_address, target)
