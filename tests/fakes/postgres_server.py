"""A real PostgreSQL server in a temporary folder, as the user that may run it, with passwords; on loopback, unless pods
of a cluster must reach it.

Debian's `postgresql` has the programs; its own cluster is not touched.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from llmops_core.platform_settings import Postgres, Secret
from tests.fakes.ports import free_port

USER, PASSWORD = "llmops", "hunter2+/@: correct"  # what an address must quote
PASSWORD_VARIABLE = "LLMOPS_TEST_PG_PASSWORD"
_numbers = itertools.count()


@dataclass(frozen=True)
class PostgresServer:
    port: int
    host: str = "127.0.0.1"

    def new_database(self) -> Postgres:
        """An empty database, as the settings name one; its password is read from PASSWORD_VARIABLE."""
        name = f"db{next(_numbers)}"
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        password = Secret(env=PASSWORD_VARIABLE)
        return Postgres(host=self.host, port=self.port, database=name, user=USER, password=password)

    def url(self, database: str) -> URL:
        return URL.create("postgresql+psycopg2", USER, PASSWORD, self.host, self.port, database)


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs, None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@contextmanager
def running_postgres(host: str = "127.0.0.1") -> Iterator[PostgresServer]:
    folder, port, bin_folder = Path(tempfile.mkdtemp(prefix="pg-")), free_port(), programs()
    assert bin_folder is not None
    user = _user()
    secret, data = folder / "password", folder / "data"
    secret.write_text(PASSWORD)
    for path in (folder, secret):
        shutil.chown(path, user)
    made = [bin_folder / "initdb", "-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "-E", "UTF8"]
    subprocess.run([*made, "--no-sync", "--locale=C.UTF-8"], user=user, cwd=folder, capture_output=True, check=True)
    if host != "127.0.0.1":
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")  # pods come from addresses of their own
    options = {"listen_addresses": host, "port": port, "unix_socket_directories": folder, "fsync": "off"}
    command = [bin_folder / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log)
    try:
        running = PostgresServer(port, host)
        _wait(running.url("postgres"), server)
        yield running
    finally:
        server.send_signal(2)  # SIGINT: end connections, then end
        server.wait(timeout=30)
        shutil.rmtree(folder)


def _user() -> str:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    return "postgres" if any(each.pw_name == "postgres" for each in pwd.getpwall()) else "nobody"


def _wait(url: URL, server: subprocess.Popen[bytes], limit_seconds: float = 30) -> None:
    engine, deadline = create_engine(url), time.monotonic() + limit_seconds
    while True:
        try:
            engine.connect().close()
        except OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return engine.dispose()
