"""What every implementation of the door to the registry keeps: the fake, MLflow on a database, MLflow's server, and
MLflow's server on PostgreSQL."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_core.errors import InputError, IntegrityError
from llmops_core.registration import SIGNATURE_TAG, VersionFacts
from resources.registry.registry import MlflowRegistry, ModelRegistry, RegistrationRequest
from tests.fakes.real_mlflow import running_server
from tests.fakes.registry import FakeRegistry

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["fake", "database", "server", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    if request.param == "fake":
        yield FakeRegistry()
    elif request.param == "database":
        yield MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}")
    else:
        database = None
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_for_all")
            database = server.url(server.new_database().database).render_as_string(hide_password=False)
        with running_server(folder, database) as (address, _):
            yield MlflowRegistry(address)


@pytest.fixture
def model() -> str:
    return f"llama-3.{next(_numbers)}-8b"


@pytest.fixture
def run_id(registry: ModelRegistry, model: str) -> str:
    return registry.open_run(model, "train", {"llmops.fingerprint": "f" * 64})


@pytest.fixture
def request_for(model: str, run_id: str, tmp_path: Path) -> Callable[..., RegistrationRequest]:
    report = tmp_path / "0123-report.json"
    report.write_text('{"exact_match": 0.97}')

    def make(**changes: str) -> RegistrationRequest:
        facts = {
            "model": model,
            "semver": "1.0.0",
            "revision": "a" * 40,
            "data_digest": "1" * 64,
            "data_hash": "0" * 32 + ".dir",
            "base_digest": "2" * 64,
            "weights_digest": "3" * 64,
            "evaluation_digest": "4" * 64,
            "fingerprint": "f" * 64,
            **changes,
        }
        return RegistrationRequest(
            facts=VersionFacts.model_validate(facts),
            run_id=run_id,
            signature="-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----",
            artifact_uri=f"file:///artifacts/weights/{facts['weights_digest']}",
            description="# A card\n\n| figure | value |",
            metrics={"exact_match": 0.97},
            evidence={"evaluation/report.json": report},
        )

    return make


def test_a_run_is_opened_once_for_a_fingerprint(registry: ModelRegistry, model: str, run_id: str) -> None:
    assert registry.open_run(model, "again", {"llmops.fingerprint": "f" * 64}) == run_id
    assert registry.open_run(model, "other", {"llmops.fingerprint": "e" * 64}) != run_id
    assert registry.open_run(f"{model}.b", "train", {"llmops.fingerprint": "f" * 64}) != run_id


@pytest.mark.parametrize("tags", [{}, {"llmops.fingerprint": "x' OR ''='"}])
def test_a_run_without_a_fingerprint_is_refused(registry: ModelRegistry, model: str, tags: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"llmops\.fingerprint"):
        registry.open_run(model, "train", tags)


def test_logging_again_changes_nothing_and_contradicting_is_found(
    registry: ModelRegistry, run_id: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_text("x")
    for _ in range(2):
        registry.log(run_id, {"loss": [(0, 3.5), (1, 0.5)]}, {"rate": 0.1}, {"curves/loss.txt": tmp_path / "x"})
    with pytest.raises(IntegrityError, match="fingerprint is not unique"):
        registry.log(run_id, {}, {"rate": 0.2}, {})
    registry.close_run(run_id, "FINISHED")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\\b"])
def test_a_file_cannot_be_put_outside_of_the_run(
    registry: ModelRegistry, run_id: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(InputError, match="leaves the run"):
        registry.log(run_id, {}, {}, {name: tmp_path / "x"})


def test_a_file_that_is_not_there_is_said(registry: ModelRegistry, run_id: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        registry.log(run_id, {}, {}, {"x": tmp_path / "nothing"})


def test_logging_to_a_run_that_does_not_exist_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(InputError):
        registry.log("0" * 32, {"loss": [(0, 1.0)]}, {}, {})


def test_a_version_carries_its_whole_origin(
    registry: ModelRegistry, model: str, run_id: str, request_for: Callable[..., RegistrationRequest]
) -> None:
    request = request_for()
    made = registry.register(request)
    assert (made.model, made.version, made.run_id) == (model, 1, run_id)
    assert made.tags.items() >= request.facts.tags().items()
    assert made.tags[SIGNATURE_TAG] == request.signature
    assert made.tags["llmops.artifact_uri"] == request.artifact_uri
    assert made.description == request.description
    assert registry.version(model, 1) == made
    assert registry.verify(1, request.facts) == made


def test_the_same_identity_is_one_version_and_keeps_its_first_revision(
    registry: ModelRegistry, model: str, request_for: Callable[..., RegistrationRequest]
) -> None:
    first = registry.register(request_for())
    assert registry.register(request_for()) == first
    later = registry.register(request_for(revision="b" * 40))
    assert later == first and later.facts() == request_for().facts
    registry.register(request_for(evaluation_digest="e" * 64))
    registry.register(request_for(weights_digest="e" * 64))
    registry.register(request_for(semver="1.0.1", fingerprint="e" * 64))  # the same bytes under a new name
    assert [(v.version, v.tags["llmops.semver"]) for v in registry.versions(model)] == [
        (1, "1.0.0"),
        (2, "1.0.0"),
        (3, "1.0.0"),
        (4, "1.0.1"),
    ]


@pytest.mark.parametrize("field", ["revision", "data_digest", "data_hash", "base_digest", "weights_digest", "semver"])
def test_a_tag_that_somebody_changed_is_found_and_named(
    registry: ModelRegistry, model: str, request_for: Callable[..., RegistrationRequest], field: str
) -> None:
    request = request_for()
    registry.register(request)
    registry.set_tag(model, 1, f"llmops.{field}", "forged")
    with pytest.raises(IntegrityError, match=rf"llmops\.{field} is 'forged'"):
        registry.verify(1, request.facts)


def test_a_version_that_vanished_does_not_verify(
    registry: ModelRegistry, request_for: Callable[..., RegistrationRequest]
) -> None:
    with pytest.raises(IntegrityError, match="no version 7"):
        registry.verify(7, request_for().facts)


def test_an_alias_moves_and_points_only_to_what_exists(
    registry: ModelRegistry, model: str, request_for: Callable[..., RegistrationRequest]
) -> None:
    assert registry.alias(model, "production") is None
    registry.register(request_for())
    assert registry.alias(model, "production") is None
    registry.register(request_for(weights_digest="e" * 64))
    for version in (1, 2, 2, 1):
        registry.set_alias(model, "production", version)
        assert registry.alias(model, "production") == version
    with pytest.raises(InputError):
        registry.set_alias(model, "production", 3)
    assert registry.alias(model, "production") == 1
    for _ in range(2):
        registry.remove_alias(model, "production")
        assert registry.alias(model, "production") is None and registry.version(model, 1) is not None


def test_what_was_never_registered_is_none_and_not_an_error(registry: ModelRegistry, model: str) -> None:
    assert registry.versions(model) == []
    assert registry.version(model, 1) is None


def test_a_version_of_a_run_that_does_not_exist_is_refused(
    registry: ModelRegistry, model: str, request_for: Callable[..., RegistrationRequest]
) -> None:
    request = request_for()
    with pytest.raises(InputError):
        registry.register(RegistrationRequest(request.facts, "0" * 32, "s", "file:///x", "card"))
    assert registry.versions(model) == []


@pytest.mark.parametrize("name", ["", "A", "a/b", "a' OR name LIKE '%", "../x"])
def test_a_name_that_is_no_models_never_reaches_a_query(registry: ModelRegistry, name: str) -> None:
    for ask in (
        lambda: registry.versions(name),
        lambda: registry.version(name, 1),
        lambda: registry.alias(name, "production"),
        lambda: registry.set_alias(name, "production", 1),
        lambda: registry.remove_alias(name, "production"),
        lambda: registry.open_run(name, "train", {"llmops.fingerprint": "f" * 64}),
    ):
        with pytest.raises(InputError, match="no name of a model"):
            ask()


def test_links_name_the_version_and_the_run(registry: ModelRegistry, model: str, run_id: str) -> None:
    assert registry.link(model, 3).endswith(f"/#/models/{model}/versions/3")
    assert registry.run_link(run_id).endswith(f"/runs/{run_id}")
