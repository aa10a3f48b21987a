"""Trying a PostgreSQL database: whether it lets us in, and lets us make tables. Nothing is left behind."""

from sqlalchemy.engine import URL

from llmops_core.errors import EnvironmentLacks, TransientError

SECONDS = 5
ASKED = "select current_setting('server_version'), has_schema_privilege(current_schema(), 'CREATE')"


def try_database(url: URL) -> str:
    """The server's version. Raises EnvironmentLacks for what somebody must mend, TransientError where none answers."""
    import sqlalchemy
    from sqlalchemy.exc import DBAPIError, OperationalError

    try:
        engine = sqlalchemy.create_engine(url, connect_args={"connect_timeout": SECONDS}, poolclass=sqlalchemy.NullPool)
    except ImportError as error:
        raise EnvironmentLacks(f"the driver for PostgreSQL is not installed: {error.name}") from None
    try:
        with engine.connect() as connection:
            version, may_create = connection.execute(sqlalchemy.text(ASKED)).one()
    except OperationalError as error:
        said = str(error.orig).strip().splitlines()[-1]
        if any(word in said for word in ("authentication failed", "does not exist", "no pg_hba.conf entry", "denied")):
            raise EnvironmentLacks(f"the server refuses: {said}") from None
        raise TransientError(said) from None
    except DBAPIError as error:
        raise EnvironmentLacks(str(error.orig).strip()) from None
    if not may_create:
        raise EnvironmentLacks(f"{url.username} may make no tables in {url.database}: grant create on its schema")
    return str(version)
