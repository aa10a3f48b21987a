"""The platform's parts on a real PostgreSQL server: Dagster runs and remembers there, and no password is written
anywhere."""

import json
import os
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus, asset, materialize

from llmops_core.errors import EnvironmentLacks, TransientError
from llmops_core.platform_settings import MlflowServer, Places, Postgres, Secret
from llmops_core.settings import Settings, load_settings
from resources.home import Home
from resources.host.platform_programs import platform_programs, write_dagster_instance
from resources.ledger.ledger import SqlLedger
from resources.ledger.postgres import DAGSTER_PASSWORD, database_url, secret_variables
from resources.wiring import Platform
from tests.fakes.postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer

ROOT = Path(__file__).parents[2]


def settings(**places: Postgres | MlflowServer) -> Settings:
    own = load_settings((ROOT / "config/local.yaml").read_bytes(), "config/local.yaml")
    return own.model_copy(update={"platform": Places(**places)})


def test_dagster_ran_nothing_on_postgresql_or_forgot_it(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(ROOT, tmp_path, 9100)
    places = Places(dagster=postgres.new_database())
    write_dagster_instance(home, places)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))

    @asset
    def weights() -> int:
        return 7

    with DagsterInstance.get() as instance:
        run = materialize([weights], instance=instance)
        assert run.success
    with DagsterInstance.get() as another:
        found = another.get_run_by_id(run.run_id)
        assert found is not None and found.status == DagsterRunStatus.SUCCESS
        assert another.get_latest_materialization_event(weights.key) is not None
        assert "Postgres" in type(another.event_log_storage).__name__
    assert not list((tmp_path / "dagster").rglob("*.db"))


def test_the_secret_of_a_file_was_not_found_by_dagster(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    monkeypatch.delenv(PASSWORD_VARIABLE)
    place = Secret.model_construct(env=None, file=str(tmp_path / "secret"))
    database = postgres.new_database().model_copy(update={"password": place})
    places = Places.model_construct(dagster=database, ledger=None, mlflow=None, mlflow_database=None)
    programs = platform_programs(Home(ROOT, tmp_path / "home", 9100), None, places)
    assert {program.environment[DAGSTER_PASSWORD] for program in programs} == {PASSWORD}
    assert json.loads((tmp_path / "home/dagster/dagster.yaml").read_text())["storage"]["postgres"]["postgres_db"] == {
        "scheme": "postgresql+psycopg2",
        **{"hostname": "127.0.0.1", "port": postgres.port, "db_name": database.database, "username": "llmops"},
        "password": {"env": DAGSTER_PASSWORD},
    }


def test_a_password_was_written_where_others_read(
    postgres: PostgresServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database = postgres.new_database()
    home = Home(ROOT, tmp_path, 9100)
    places = Places(dagster=database, ledger=database, mlflow_database=database)
    programs = platform_programs(home, None, places)
    wrong = database.model_copy(update={"database": "missing"})
    with pytest.raises(TransientError, match="cannot be reached") as failed:
        SqlLedger(database_url(wrong, os.environ))
    seen = [str(failed.value), repr(database_url(database, os.environ)), *capfd.readouterr()]
    seen += [" ".join(program.command) for program in programs]
    seen += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert [text for text in seen if PASSWORD in text or "hunter2" in text] == []
    mlflow, *others = programs
    assert "postgresql" in mlflow.environment["_MLFLOW_SERVER_FILE_STORE"]
    assert not any("postgresql" in value for program in others for value in program.environment.values())


def test_a_missing_password_was_found_out_by_the_first_query(tmp_path: Path) -> None:
    nobody = Postgres(host="db.example.com", database="x", user="x", password=Secret(env="NO_SUCH_VARIABLE"))
    for places in (Places(ledger=nobody), Places(dagster=nobody), Places(mlflow_database=nobody)):
        with pytest.raises(EnvironmentLacks, match="NO_SUCH_VARIABLE"):
            platform_programs(Home(ROOT, tmp_path, 9100), None, places)


def test_an_mlflow_elsewhere_was_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TOKEN", "secret")
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)
    server = MlflowServer.model_construct(url="https://mlflow.example.com", token=Secret(env="MLFLOW_TOKEN"))
    platform = Platform(Home(ROOT, tmp_path, 9100), settings(mlflow=server))
    assert platform.registry.link("tiny", 3).startswith("https://mlflow.example.com/")
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "secret"
    programs = platform_programs(platform.home, None, platform.settings.platform)
    assert "mlflow" not in [program.name for program in programs]
    assert secret_variables(platform.settings.platform, os.environ) == {"MLFLOW_TOKEN": "secret"}
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
