"""MLflow's server as one small process.

`mlflow server` starts, by default, four web workers, a job runner with a consumer for each kind of job, and stays
beside them itself: fifteen processes with 1.7 GB together. This platform uses none of its jobs, so its web application
runs alone, under uvicorn, in one process with 250 MB that answers after 3 s and stops in 0.2 s. MLflow reads where its
database is from variables that its own command sets; they are not documented, so a test starts this very command.
"""

import sys
from pathlib import Path


def mlflow_command(port: int) -> list[str]:
    """The program to supervise; it serves on loopback only and ends on SIGTERM."""
    uvicorn = [sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app"]
    return [*uvicorn, "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--log-level", "warning"]


def mlflow_environment(folder: Path, database: str | None = None) -> dict[str, str]:
    """What the program needs to know: all its state lies in `folder`, an absolute path, but for the tables where the
    address of a `database` is given.

    Artefacts are written by the clients themselves, which run on the same machine; the server only shows them.
    """
    database = database or f"sqlite:///{folder / 'mlflow.db'}"
    return {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (folder / "artifacts").as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
