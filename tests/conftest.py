"""Machines that run these tests are shared: an example that took long says nothing about the code."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.fakes import postgres_server

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def postgres_for_all() -> Iterator[postgres_server.PostgresServer]:
    if postgres_server.programs() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with postgres_server.running_postgres() as server:
        yield server


@pytest.fixture
def postgres(
    postgres_for_all: postgres_server.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> postgres_server.PostgresServer:
    """A real server; the variable that its databases' settings name holds the password."""
    monkeypatch.setenv(postgres_server.PASSWORD_VARIABLE, postgres_server.PASSWORD)
    return postgres_for_all
