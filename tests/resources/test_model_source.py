"""Base models of any origin: a folder that is no usable model is refused, and nothing half-written stays."""

from pathlib import Path

import pytest
from hub_server import Hub
from model_samples import LISTED, WANTED, model_files, names, nothing_left

from llmops_core.errors import EnvironmentLacks, InputError
from llmops_core.training_spec import HuggingFaceSource, LocalSource
from resources.data.dataset_store import DvcStore
from resources.git.source import GitSource
from resources.models import model_source
from resources.models.model_folder import INDEX
from resources.models.model_source import fetch_base


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "base"


def from_hub(hub: Hub, target: Path) -> None:
    given = {"repository": hub.repository, "revision": hub.revision, "endpoint": f"http://{hub.host}"}
    source = HuggingFaceSource.model_validate({"type": "huggingface", **given}, context=LISTED)
    fetch_base(source, target, None, "", ("127.0.0.1",))


def without(files: dict[str, bytes], *gone: str, **changed: bytes) -> dict[str, bytes]:
    return {name: content for name, content in {**files, **changed}.items() if name not in gone}


BAD_MODELS = [
    (without(model_files(), "model.safetensors"), "no safetensors"),
    (without(model_files(), "config.json"), "no such file"),
    (without(model_files(), "tokenizer.json"), "no tokenizer"),
    ({**model_files(), "config.json": b"[]"}, "no JSON object"),
    ({**model_files(), "config.json": b"{"}, "no JSON object"),
    ({**model_files(), "config.json": b'{"model_type": "evil"}'}, "architecture is not supported"),
    ({**model_files(), "config.json": b'{"model_type": "llama", "auto_map": {}}'}, "code of its own"),
    ({**model_files(), "model.safetensors": b"\x80\x04 a pickle in disguise"}, "sound safetensors"),
    ({**model_files(), INDEX: b'{"weight_map": {"b": "model.safetensors"}}'}, "1 lost, such as b in"),
    ({**model_files(), INDEX: b'{"weight_map": {"a": "../x.safetensors"}}'}, "1 lost"),
    ({**model_files(), INDEX: b"3"}, "no weight_map"),
    ({}, "no safetensors"),
]


@pytest.mark.parametrize(("files", "words"), BAD_MODELS)
def test_a_folder_that_is_no_usable_model(hub, target, files, words):
    hub.files = files
    with pytest.raises(InputError, match=words):
        from_hub(hub, target)
    assert nothing_left(target)


def test_a_configuration_of_unreasonable_size_is_not_read(hub, target, monkeypatch):
    monkeypatch.setattr("resources.models.model_folder.LIMIT_JSON_BYTES", 10)
    with pytest.raises(InputError, match="cannot be read"):
        from_hub(hub, target)


def test_an_error_that_is_no_full_disk_is_not_called_one(hub, target, monkeypatch):
    def denied(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(model_source, "sync_file", denied)
    with pytest.raises(PermissionError):
        from_hub(hub, target)
    assert nothing_left(target)


def test_a_full_disk_is_said_and_leaves_nothing(hub, target, monkeypatch):
    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_source, "sync_file", full)
    with pytest.raises(EnvironmentLacks, match="no space left"):
        from_hub(hub, target)
    assert nothing_left(target)


def test_a_model_comes_from_a_folder_that_dvc_tracks(dvc_repository, target):
    dvc_repository.write({f"base/{name}": content for name, content in model_files().items()})
    dvc_repository.dvc("add", "--quiet", "base")
    revision = dvc_repository.commit()
    store = DvcStore(dvc_repository.path, GitSource(dvc_repository.path))
    fetch_base(LocalSource(type="local", path="base"), target, store, revision)
    assert names(target) == WANTED
    with pytest.raises(InputError, match="no DVC output"):
        fetch_base(LocalSource(type="local", path="other"), target.with_name("second"), store, revision)
    pretrained = LocalSource.model_validate({"type": "local", "pretrain": {"data": "rows.jsonl"}})
    with pytest.raises(InputError, match="made by a recipe"):
        fetch_base(pretrained, target.with_name("third"), store, revision)
