"""PostgreSQL databases that the settings name: their addresses for SQLAlchemy, and for a dagster.yaml.

A password appears in memory and in the environment of the programs that connect, never in a file of ours, an argument
or a log: SQLAlchemy hides it where it shows an address. libpq's own variables (PGSSLMODE, PGSSLROOTCERT) hold for all
connections.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import URL

from llmops_core.platform_settings import Places, Postgres, Secret
from resources.secret_values import secret_value

# under which Dagster finds a password that the settings keep in a file: a dagster.yaml names variables only
DAGSTER_PASSWORD = "LLMOPS_DAGSTER_PASSWORD"  # noqa: S105 (a name)


def database_url(database: Postgres, environ: Mapping[str, str]) -> URL:
    """Raises EnvironmentLacks where the password is not where the settings say."""
    password = secret_value(database.password, environ)
    address = {"host": database.host, "port": database.port, "database": database.database}
    return URL.create("postgresql+psycopg2", database.user, password, **address)


def dagster_storage(database: Postgres) -> dict[str, Any]:
    """The `storage` of a dagster.yaml: runs, events and schedules, with the password by reference."""
    return {
        "postgres": {
            "postgres_db": {
                "scheme": "postgresql+psycopg2",  # SQLAlchemy would take another driver
                "hostname": database.host,
                "port": database.port,
                "db_name": database.database,
                "username": database.user,
                "password": {"env": _variable(database.password)},
            }
        }
    }


def secret_variables(places: Places, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a program of the platform needs in order to connect to these places, with their secrets.

    Raises EnvironmentLacks for one that is not there.
    """
    named = [each.password for each in (places.dagster, places.ledger) if each is not None]
    if places.mlflow is not None and places.mlflow.token is not None:
        named.append(places.mlflow.token)
    variables = {secret.env: secret_value(secret, environ) for secret in named if secret.env is not None}
    if places.dagster is not None:
        password = places.dagster.password
        variables[_variable(password)] = secret_value(password, environ)
    return variables


def _variable(secret: Secret) -> str:
    return secret.env or DAGSTER_PASSWORD
