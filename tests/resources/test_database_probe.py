from collections.abc import Iterator

import pytest

from llmops_core.errors import EnvironmentLacks, TransientError
from resources.ledger.database_probe import try_database
from resources.ledger.postgres import database_url
from tests.fakes.ports import free_port
from tests.fakes.postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer, programs, running_postgres

pytestmark = pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed here")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


def test_a_database_that_lets_nobody_in_was_called_good(server: PostgresServer) -> None:
    database = server.new_database()
    assert try_database(database_url(database, {PASSWORD_VARIABLE: PASSWORD}))[0].isdigit()
    with pytest.raises(EnvironmentLacks, match="authentication failed"):
        try_database(database_url(database, {PASSWORD_VARIABLE: "wrong"}))
    with pytest.raises(EnvironmentLacks, match="does not exist"):
        try_database(database_url(database.model_copy(update={"database": "none"}), {PASSWORD_VARIABLE: PASSWORD}))
    with pytest.raises(TransientError):
        try_database(database_url(database.model_copy(update={"port": free_port()}), {PASSWORD_VARIABLE: PASSWORD}))


def test_a_database_in_which_no_table_can_be_made_was_called_good(server: PostgresServer) -> None:
    import sqlalchemy

    database = server.new_database()
    url = database_url(database, {PASSWORD_VARIABLE: PASSWORD})
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create role reader login password 'x'"))
    engine.dispose()
    with pytest.raises(EnvironmentLacks, match="may make no tables"):
        try_database(url.set(username="reader", password="x"))
