"""MLflow itself: kills between two calls, races, what is really stored, and outages."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, TransientError
from llmops_core.registration import VersionFacts
from resources.registry.mlflow_errors import mlflow_errors
from resources.registry.registry import MlflowRegistry, RegistrationRequest
from tests.fakes.ports import free_port
from tests.fakes.real_mlflow import running_server

FINGERPRINT = {"llmops.fingerprint": "f" * 64, "llmops.revision": "a" * 40}
FACTS = {
    "semver": "1.0.0",
    "revision": "a" * 40,
    "data_digest": "1" * 64,
    "data_hash": "0" * 32,
    "base_digest": "2" * 64,
    "weights_digest": "3" * 64,
    "evaluation_digest": "4" * 64,
    "fingerprint": "f" * 64,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def registry(folder: Path) -> MlflowRegistry:
    return MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", ui_url="http://127.0.0.1:8602/")


@pytest.fixture
def client(registry: MlflowRegistry) -> Any:
    return registry._client


def request_for(registry: MlflowRegistry, model: str, description: str = "card") -> RegistrationRequest:
    run_id = registry.open_run(model, "train", FINGERPRINT)
    facts = VersionFacts.model_validate({"model": model, **FACTS})
    return RegistrationRequest(facts, run_id, "signature", "file:///artifacts/x", description, {"exact_match": 0.97})


def entries_of(client: Any, model: str) -> list[Any]:
    return client.search_logged_models([client.get_experiment_by_name(model).experiment_id])


class Killed(BaseException):
    """What a process that is killed looks like to the code around it."""


class KilledAfter:
    """A client that dies right after its nth call has reached MLflow."""

    def __init__(self, client: Any, calls: int) -> None:
        self.client, self.left = client, calls

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            answer = getattr(self.client, name)(*arguments, **named)
            self.left -= 1
            if self.left == 0:
                raise Killed(name)
            return answer

        return call


def test_a_registration_killed_after_any_call_converges_when_repeated(
    registry: MlflowRegistry, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    while True:
        calls += 1
        model = f"killed-{calls}"
        request = request_for(registry, model)
        monkeypatch.setattr(registry, "_client", KilledAfter(client, calls))
        try:
            registry.register(request)
            survived = True
        except Killed:
            survived = False
        monkeypatch.setattr(registry, "_client", client)
        made = registry.register(request)
        (entry,) = entries_of(client, model)
        assert [v.version for v in registry.versions(model)] == [made.version] == [1]
        assert (entry.status.name, entry.model_id) == ("READY", made.tags["llmops.logged_model"])
        assert [(m.key, m.value) for m in entry.metrics] == [("exact_match", 0.97)]
        assert [f.path for f in client.list_logged_model_artifacts(entry.model_id)] == ["model_card.md"]
        if survived:
            break
    assert calls > 8  # every call of a whole registration was the last one once


def test_a_run_killed_while_it_is_opened_is_opened_once(
    registry: MlflowRegistry, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for calls in range(1, 6):
        monkeypatch.setattr(registry, "_client", KilledAfter(client, calls))
        with pytest.raises(Killed):
            registry.open_run(f"run-{calls}", "train", FINGERPRINT)
        monkeypatch.setattr(registry, "_client", client)
        registry.open_run(f"run-{calls}", "train", FINGERPRINT)
        experiment = client.get_experiment_by_name(f"run-{calls}")
        assert len(client.search_runs([experiment.experiment_id])) == 1


def test_registrations_at_the_same_time_agree_on_one_version(registry: MlflowRegistry) -> None:
    request = request_for(registry, "raced")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: registry.register(request), range(4)))
    assert {version.version for version in made} == {1}
    assert registry.register(request).version == 1


def test_a_failed_run_goes_on_and_a_deleted_experiment_comes_back(registry: MlflowRegistry, client: Any) -> None:
    run_id = registry.open_run("again", "train", FINGERPRINT)
    registry.close_run(run_id, "FAILED")
    assert registry.open_run("again", "train", FINGERPRINT) == run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    client.delete_experiment(client.get_experiment_by_name("again").experiment_id)
    again = registry.open_run("again", "train", FINGERPRINT)
    registry.log(again, {"loss": [(0, 1.0)]}, {}, {})


def test_a_curve_is_one_call_and_keeps_every_step(
    registry: MlflowRegistry, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    original = client.log_batch

    def counted(run_id: str, metrics: Any = (), params: Any = (), **named: Any) -> Any:
        batches.append(len(metrics))
        return original(run_id, metrics, params, **named)

    monkeypatch.setattr(client, "log_batch", counted)
    run_id = registry.open_run("curves", "train", FINGERPRINT)
    curve = [(step, 4.0 / (step + 1)) for step in range(300)]
    (tmp_path / "0f3a").write_text("bytes")
    registry.log(run_id, {"loss": curve, "rate": curve}, {"steps": 300}, {"report.json": tmp_path / "0f3a"})
    assert batches == [600]
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")] == curve
    assert [f.path for f in client.list_artifacts(run_id)] == ["report.json"]
    assert client.get_run(run_id).data.tags["mlflow.source.git.commit"] == "a" * 40
    registry.log(run_id, {"loss": curve}, {"steps": 300}, {})
    assert len(client.get_metric_history(run_id, "loss")) == 300


def test_more_than_one_call_holds_is_logged_whole(registry: MlflowRegistry, client: Any) -> None:
    run_id = registry.open_run("long", "train", FINGERPRINT)
    registry.log(run_id, {"loss": [(s, float(s)) for s in range(2000)]}, {f"p{n}": n for n in range(250)}, {})
    assert len(client.get_metric_history(run_id, "loss")) == 2000
    assert len(client.get_run(run_id).data.params) == 250


def test_a_loss_that_is_not_a_number_is_kept_as_such(registry: MlflowRegistry, client: Any) -> None:
    run_id = registry.open_run("diverged", "train", FINGERPRINT)
    registry.log(run_id, {"loss": [(0, 1.0), (1, float("nan"))]}, {}, {})
    first, second = client.get_metric_history(run_id, "loss")
    assert first.value == 1.0 and second.value != second.value


def test_a_name_that_mlflow_refuses_is_the_callers_error(registry: MlflowRegistry) -> None:
    run_id = registry.open_run("odd", "train", FINGERPRINT)
    with pytest.raises(InputError, match="metric"):
        registry.log(run_id, {"lo$$": [(0, 1.0)]}, {}, {})
    with pytest.raises(InputError, match="reserved"):
        registry.register(request_for(registry, "odd"))
        registry.set_alias("odd", "v1", 1)


def test_a_long_card_is_shortened_in_the_entry_and_whole_in_the_files(
    registry: MlflowRegistry, client: Any, tmp_path: Path
) -> None:
    card = "x" * 20_000
    made = registry.register(request_for(registry, "talkative", card))
    assert len(made.description) == 5000 and made.description.endswith("among the logged model's files.")
    (entry,) = entries_of(client, "talkative")
    place = Path(entry.artifact_location.removeprefix("file://"))
    assert (place / "model_card.md").read_text() == card


def test_links_point_to_the_pages_of_the_server(registry: MlflowRegistry, client: Any) -> None:
    run_id = registry.open_run("linked.b", "train", FINGERPRINT)
    experiment = client.get_experiment_by_name("linked.b").experiment_id
    assert registry.link("linked.b", 2) == "http://127.0.0.1:8602/#/models/linked.b/versions/2"
    assert registry.run_link(run_id) == f"http://127.0.0.1:8602/#/experiments/{experiment}/runs/{run_id}"


def test_nothing_is_left_behind_in_the_working_folder(folder: Path) -> None:
    assert not Path("mlflow.db").exists() and not Path("mlruns").exists()
    assert {p.name for p in folder.iterdir()} == {"mlflow.db", "artifacts"}


def test_the_door_opens_without_importing_mlflow() -> None:
    opened = "resources.registry.registry as r; r.MlflowRegistry('http://127.0.0.1:1')"
    code = f"import sys, {opened}; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_pickles_and_telemetry_are_off(registry: MlflowRegistry) -> None:
    from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION, MLFLOW_DISABLE_TELEMETRY

    assert registry.versions("nothing") == []
    assert MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get() is False
    assert MLFLOW_DISABLE_TELEMETRY.get() is True


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "databricks", "mysql://user:hunter2@db/x"])
def test_a_place_that_cannot_hold_a_registry_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="cannot keep a registry") as refused:
        MlflowRegistry(uri)
    assert "hunter2" not in str(refused.value)


def test_a_damaged_database_needs_a_person(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(IntegrityError, match="damaged"):
        MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}").versions("atlas-qa")


def test_a_database_without_its_tables_needs_a_person(folder: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes((folder / "mlflow.db").read_bytes())
    registry = MlflowRegistry(f"sqlite:///{database}")
    assert registry.versions("atlas-qa") == []
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE model_versions")
    with pytest.raises(IntegrityError, match="damaged"):
        registry.versions("atlas-qa")


def test_a_server_that_is_down_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TransientError, match="listing the versions of atlas-qa"):
        MlflowRegistry(f"http://127.0.0.1:{free_port()}").versions("atlas-qa")


def test_a_full_disk_says_so() -> None:
    with pytest.raises(EnvironmentLacks, match="disk is full"), mlflow_errors("logging"):
        raise OSError(28, "No space left on device")
    with pytest.raises(TransientError, match="logging"), mlflow_errors("logging"):
        raise ConnectionResetError("reset by peer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_the_server_is_one_process_of_modest_size(server: tuple[str, int]) -> None:
    registry = MlflowRegistry(server[0])
    registry.register(request_for(registry, "small.model"))
    process = psutil.Process(server[1])
    assert process.children(recursive=True) == []
    assert process.memory_info().rss < 400e6
    assert {c.laddr.ip for c in process.net_connections() if c.status == "LISTEN"} == {"127.0.0.1"}


def test_registrations_through_a_server_at_the_same_time_agree(server: tuple[str, int]) -> None:
    registry = MlflowRegistry(server[0])
    request = request_for(registry, "raced.b")
    with ThreadPoolExecutor(4) as pool:
        assert {made.version for made in pool.map(lambda _: registry.register(request), range(4))} == {1}
