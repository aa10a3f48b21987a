"""A real MLflow server for tests, started by the very command that the platform supervises."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resources.registry.mlflow_server import mlflow_command, mlflow_environment
from tests.fakes.ports import free_port


@contextmanager
def running_server(folder: Path, database: str | None = None, limit_seconds: float = 60) -> Iterator[tuple[str, int]]:
    """(address, process id) of a server that keeps everything in `folder`, its tables in `database` if one is given,
    until the block ends."""
    port = free_port()
    environment = {**os.environ, **mlflow_environment(folder, database)}
    with Path(folder, "server.log").open("wb") as log:
        server = subprocess.Popen(mlflow_command(port), env=environment, cwd=folder, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, server, time.monotonic() + limit_seconds)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait(address: str, server: subprocess.Popen[bytes], deadline: float) -> None:
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise TimeoutError(f"MLflow's server did not answer at {address}")
