"""A registry moved to another MLflow: nothing lost, nothing doubled, whoever dies when."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag

from llmops_core.errors import InputError
from llmops_core.registration import VersionFacts
from resources.registry.model_registry import RegistrationRequest
from resources.registry.registry import MlflowRegistry
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.real_mlflow import running_server

FACTS = {
    **{"model": "tiny", "semver": "1.0.0", "revision": "a" * 40, "data_digest": "1" * 64, "data_hash": "0" * 32},
    **{"base_digest": "2" * 64, "weights_digest": "3" * 64, "evaluation_digest": "4" * 64},
}


class Died(BaseException):
    """What a killed process looks like to the code around it."""


def moved(uri: str) -> str:
    return uri.replace("file:///there", "file:///here")


def registered(registry: MlflowRegistry, number: int, evidence: Path) -> None:
    fingerprint = f"{number}" * 64
    run = registry.open_run("tiny", "train", {"llmops.fingerprint": fingerprint})
    facts = VersionFacts.model_validate({**FACTS, "fingerprint": fingerprint})
    evidence.write_text(f"report {number}")
    registry.log(run, {"loss": [(step, 1 / (step + 1)) for step in range(30)]}, {"rate": 0.1}, {"a/b.txt": evidence})
    files = {"evaluation.json": evidence}
    card = RegistrationRequest(facts, run, "signed", "file:///there/x", "# Card", {"exact_match": 0.9}, files)
    registry.register(card)
    registry.close_run(run, "FINISHED")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    """Three versions, of which the second was deleted; two runs that failed, one of them deleted."""
    folder = tmp_path_factory.mktemp("source")
    registry = MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}")
    for number in (1, 2, 3):
        registered(registry, number, folder / "report")
    client = registry._client
    client.delete_model_version("tiny", "2")
    registry.set_alias("tiny", "production", 1)
    registry.set_alias("tiny", "candidate", 3)
    registry.set_tag("tiny", 3, "reviewed", "by Ada")
    client.set_registered_model_tag("tiny", "team", "atlas")
    client.update_registered_model("tiny", description="A tiny one")
    client.set_experiment_tag(client.get_experiment_by_name("tiny").experiment_id, "owner", "Ada")
    for number in (8, 9):
        run = registry.open_run("tiny", f"failed {number}", {"llmops.fingerprint": f"{number}" * 64})
        registry.log(run, {"loss": [(0, math.nan), (1, math.inf)]}, {}, {})
        registry.close_run(run, "FAILED")
    told = DatasetInput(Dataset("rows", "0123", "local", "{}", "[]", "{}"), [InputTag("context", "training")])
    client.log_inputs(run, [told])
    client.delete_run(run)
    return registry


@pytest.fixture
def written(source: MlflowRegistry, tmp_path: Path) -> Path:
    (tmp_path / "written").mkdir()
    source.export_to(tmp_path / "written")
    return tmp_path / "written"


def content(registry: MlflowRegistry, folder: Path) -> Any:
    """Everything in the registry, with the ids of where it came from."""
    folder.mkdir()
    registry.export_to(folder)
    texts = {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}
    index = json.loads(texts.pop("registry.json"))
    known: dict[str, str] = {}
    for name, text in texts.items():
        if name.endswith(("run.json", "model.json")):
            known[name.split("/")[1]] = json.loads(text)["tags"].get("llmops.moved_from", name.split("/")[1])
    names = {each["id"]: each["name"] for each in index.pop("experiments")}
    documents: dict[str, Any] = {}
    for name, text in texts.items():
        document = json.loads(text) if name.endswith(("run.json", "model.json")) else text
        if isinstance(document, dict):
            document["tags"].pop("llmops.moved_from", None)
            document["experiment"] = names[document["experiment"]]
            document["points"].sort(key=repr)
        kind, was, rest = name.split("/", 2)
        documents[f"{kind}/{known[was]}/{rest}"] = document
    for each in index["registered_models"]:
        for version in each["versions"]:
            came = version["tags"].pop("llmops.moved_from", f"{version['number']}@{version['created']}")
            version.update(created=int(came.split("@")[1]), source="")
            version["tags"]["llmops.artifact_uri"] = moved(version["tags"]["llmops.artifact_uri"])
    whole = json.dumps([sorted(names.values()), index["registered_models"], documents], sort_keys=True)
    for here, there in known.items():
        whole = whole.replace(here, there)
    return json.loads(whole)


@pytest.fixture(params=["database", "server on postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MlflowRegistry]:
    (tmp_path / "target").mkdir()
    if request.param == "database":
        yield MlflowRegistry(f"sqlite:///{tmp_path / 'target/mlflow.db'}")
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.url(postgres.new_database().database).render_as_string(hide_password=False)
    with running_server(tmp_path / "target", url) as (address, _):
        yield MlflowRegistry(address)


def test_a_moved_registry_lost_something(
    source: MlflowRegistry, target: MlflowRegistry, written: Path, tmp_path: Path
) -> None:
    target.import_from(written, moved)
    expected = content(source, tmp_path / "one")
    assert content(target, tmp_path / "two") == expected
    target.import_from(written, moved)
    assert content(target, tmp_path / "three") == expected
    assert [each.version for each in target.versions("tiny")] == [1, 3]
    assert (target.alias("tiny", "production"), target.alias("tiny", "candidate")) == (1, 3)
    facts = source.versions("tiny")[1].facts()
    assert target.verify(3, facts).tags["llmops.artifact_uri"] == "file:///here/x"


def test_records_that_name_a_run_by_its_old_id_led_nowhere(
    source: MlflowRegistry, written: Path, tmp_path: Path
) -> None:
    target = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    target.import_from(written, moved)
    there = source.open_run("tiny", "train", {"llmops.fingerprint": "1" * 64})
    here = target.open_run("tiny", "train", {"llmops.fingerprint": "1" * 64})
    assert here != there
    assert target.run_link(there) == target.run_link(here)
    target.log(there, {}, {"late": "yes"}, {})
    assert target._client.get_run(here).data.params["late"] == "yes"
    fingerprint = {**FACTS, "fingerprint": "f" * 64}
    request = RegistrationRequest(VersionFacts.model_validate(fingerprint), there, "signed", "file:///x", "# Card")
    assert target.register(request).version == 4
    with pytest.raises(InputError):
        target.run_link("0" * 32)


class Dying:
    """A client that dies at its n-th call."""

    def __init__(self, client: Any, calls: int) -> None:
        self._client, self.left = client, calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Died
            return method(*arguments, **named)

        return call


def test_an_import_that_died_doubled_or_lost_entries(source: MlflowRegistry, written: Path, tmp_path: Path) -> None:
    target = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client, calls, deaths = target._client, 2, 0
    while True:
        dying = Dying(client, calls)
        target.__dict__["_client"] = dying
        try:
            target.import_from(written, moved)
            break
        except Died:
            deaths, calls = deaths + 1, calls + 7
    target.__dict__["_client"] = client
    assert deaths > 5
    assert content(target, tmp_path / "two") == content(source, tmp_path / "one")


def test_a_version_made_here_was_taken_for_one_that_came_in(written: Path, tmp_path: Path) -> None:
    target = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    registered(target, 7, tmp_path / "report")
    before = target.versions("tiny")
    with pytest.raises(InputError, match="another version 1 of tiny"):
        target.import_from(written, moved)
    assert target.versions("tiny") == before
