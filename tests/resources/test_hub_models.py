"""Models from the hub, over real HTTP: pinned, checked, without pickles, and without telling secrets."""

import hashlib
import json
import logging
import socket
from pathlib import Path

import numpy
import pytest
from hub_server import Hub
from model_samples import LISTED, WANTED, names, nothing_left
from safetensors.numpy import save

from llmops_core.errors import InputError, IntegrityError, TransientError
from llmops_core.training_spec import HuggingFaceSource
from resources import outside
from resources.models import model_source
from resources.models.model_folder import INDEX
from resources.models.model_source import fetch_base


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "base"


def hub_source(hub: Hub, **fields: str) -> HuggingFaceSource:
    given = {"repository": hub.repository, "revision": hub.revision, "endpoint": f"http://{hub.host}", **fields}
    return HuggingFaceSource.model_validate({"type": "huggingface", **given}, context=LISTED)


def from_hub(hub: Hub, target: Path, allowed=("127.0.0.1",), **fields: str) -> None:
    fetch_base(hub_source(hub, **fields), target, None, "", allowed)


def test_a_pinned_model_comes_from_the_hub_without_pickles_and_programs(hub, target):
    from_hub(hub, target)
    assert names(target) == WANTED
    assert (target / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    origin = json.loads((target / "origin.json").read_bytes())
    assert origin["source"]["revision"] == hub.revision
    weights = next(file for file in origin["files"] if file["path"] == "model.safetensors")
    assert weights["sha256"] == weights["announced"] == hashlib.sha256(hub.files["model.safetensors"]).hexdigest()
    asked = " ".join(path for _, path, _ in hub.requests)
    assert "pytorch_model" not in asked
    assert "modeling_evil" not in asked
    before = len(hub.requests)
    from_hub(hub, target)
    assert len(hub.requests) == before
    assert [path.name for path in target.parent.iterdir()] == ["base"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_that_the_hub_did_not_announce_are_refused(hub, target, name):
    changed = bytearray(hub.files[name])
    changed[-1] ^= 1
    hub.served[name] = bytes(changed)
    with pytest.raises(IntegrityError, match=rf"{name} of team/tiny.*the hub says"):
        from_hub(hub, target)
    assert nothing_left(target)


def test_a_file_shorter_than_announced_is_refused_or_tried_again(hub, target):
    hub.served["tokenizer.json"] = b"{"
    with pytest.raises((IntegrityError, TransientError)):
        from_hub(hub, target)
    assert nothing_left(target)


def test_outages_that_pass_are_waited_for(hub, target):
    hub.refuse = {"/tree/": [503, 429], "/resolve/": [502]}
    from_hub(hub, target)
    assert names(target) == WANTED


def test_an_outage_that_stays_is_worth_another_run(hub, target):
    hub.refuse = {"/tree/": [503] * 1000}
    with pytest.raises(TransientError, match="could not be reached"):
        from_hub(hub, target)
    source = hub_source(hub)
    hub.close()
    with pytest.raises(TransientError, match="could not be reached"):
        fetch_base(source, target, None, "", ("127.0.0.1",))
    assert nothing_left(target)


def test_a_refusal_between_listing_and_download_is_still_a_refusal(hub, target):
    answer, listings = hub.answer, []

    def first_listing_only(path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        listings.extend([path] if "/tree/" in path else [])
        return (403, {}, b"") if len(listings) > 1 else answer(path, authorization)

    hub.answer = first_listing_only
    with pytest.raises(InputError, match="status 403"):
        from_hub(hub, target)
    assert nothing_left(target)


def test_a_gated_model_says_which_secret_to_set(hub, target, monkeypatch):
    hub.token = "another"
    with pytest.raises(InputError, match="HF_TOKEN"):
        from_hub(hub, target)
    hub.token = "hf_secretsecretsecret"
    from_hub(hub, target)
    assert names(target) == WANTED


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"repository": "team/other"}, "no such model"), ({"revision": "d" * 40}, "no such commit")],
)
def test_a_model_or_commit_that_is_not_there(hub, target, fields, words):
    with pytest.raises(InputError, match=words):
        from_hub(hub, target, **fields)


def test_the_token_goes_to_listed_endpoints_only_and_never_into_logs(hub, target, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    from_hub(hub, target)
    assert {authorization for _, _, authorization in hub.requests} == {"Bearer hf_secretsecretsecret"}
    assert "secretsecret" not in caplog.text
    hub.requests.clear()
    monkeypatch.setattr(model_source, "check_destination", lambda *_: False)  # a public mirror that a branch names
    from_hub(hub, target.with_name("second"))
    assert {authorization for _, _, authorization in hub.requests} == {None}


def test_an_endpoint_that_leads_inside_is_refused_before_any_request(hub, target, monkeypatch):
    with pytest.raises(InputError, match="allowed_endpoints"):
        from_hub(hub, target, allowed=())
    source = HuggingFaceSource(
        type="huggingface", repository="a/b", revision="c" * 40, endpoint="https://mirror.example.com"
    )
    inner = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inner)
    with pytest.raises(InputError, match=r"mirror\.example\.com is 10\.0\.0\.7"):
        fetch_base(source, target, None, "")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TransientError, match="cannot be resolved"):
        fetch_base(source, target, None, "")
    assert hub.requests == []
    assert outside.ATTEMPTS > 1


def test_a_public_endpoint_is_reached_without_credentials(monkeypatch):
    outer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: outer)
    assert outside.check_destination("https://mirror.example.com", ()) is False
    assert outside.check_destination("https://mirror.example.com", ("mirror.example.com",)) is True


def test_weights_in_several_files(hub, target):
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    del hub.files["model.safetensors"]
    hub.files[first], hub.files[second] = save({"a": numpy.zeros(2)}), save({"b": numpy.zeros(2)})
    hub.files[INDEX] = json.dumps({"weight_map": {"a": first, "b": second}}).encode()
    from_hub(hub, target)
    assert {first, second, INDEX} < names(target)
