"""Commands of a platform whose ledger lies on a real PostgreSQL server."""

from collections.abc import Callable
from pathlib import Path

import yaml

from resources.home import Home
from resources.ledger.ledger import SqlLedger
from resources.wiring import build_platform
from tests.cli.conftest import Ended
from tests.fakes.git_with_data import GitWithData
from tests.fakes.postgres_server import PostgresServer


def test_status_did_not_read_the_ledger_on_postgresql(
    postgres: PostgresServer, clone: GitWithData, llmops: Callable[..., Ended], tmp_path: Path
) -> None:
    database = postgres.new_database()
    file = clone.path / "config/local.yaml"
    place = database.model_dump(exclude_none=True)
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "platform": {"ledger": place}}))
    ledger = build_platform(Home(clone.path, tmp_path / "home", 9100)).ledger
    fact = ledger.append("refused", model="tiny", subject="weights", body={"reason": "as it was told", "revision": ""})
    shown = llmops("status", "--json")
    assert shown.exit_code == 0, shown.errors
    assert "as it was told" in shown.output
    assert not (tmp_path / "home/ledger.db").exists()
    assert SqlLedger(postgres.url(database.database)).facts() == [fact]
