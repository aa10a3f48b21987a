"""The platform's own programs on one machine: the registry, the code location, the daemon, the UI, and the intake of
push webhooks where the settings name a secret for one.

One code server is shared by the UI and the daemon, so that the project is imported once and not three times. The
gateway and the model servers are kept by their own doors (traffic.py, serving.py).
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from llmops_core.errors import EnvironmentLacks
from llmops_core.platform_settings import Places, Postgres, Webhook
from resources.home import HOST, Home
from resources.host.processes import Program
from resources.ledger.postgres import dagster_storage, database_url, secret_variables
from resources.registry.mlflow_server import mlflow_command, mlflow_environment
from resources.storage.publishing import publish_text

LOCATION = "llmops_assets"
NOWHERE_ELSE = Places()  # everything in the state folder
INTAKE = "intake"
CODE_SERVER = ("dagster", "api", "grpc", "-m", "llmops_assets.definitions", "--inject-env-vars-from-instance")
# ticks that decided nothing are kept for a day, others for a month: SQLite would fill up otherwise
TICK_RETENTION_DAYS = {"skipped": 1, "started": 30, "success": 30, "failure": 30}


def platform_programs(home: Home, webhook: Webhook | None, places: Places = NOWHERE_ELSE) -> list[Program]:
    """In the order in which they are started. Raises EnvironmentLacks for a secret that no variable holds."""
    write_dagster_instance(home, places)
    variables = {**_environment(home), **secret_variables(places, os.environ)}
    workspace = str(home.root / "dagster" / "workspace.yaml")
    commands: dict[str, list[str]] = {
        "mlflow": mlflow_command(home.mlflow_port),
        "code": [*CODE_SERVER, "--host", HOST, "--port", str(home.code_port), "--location-name", LOCATION],
        "daemon": ["dagster-daemon", "run", "-w", workspace],
        "dagster": ["dagster-webserver", "-h", HOST, "-p", str(home.dagster_port), "-w", workspace],
    }
    own: dict[str, dict[str, str]] = {}
    if places.mlflow is not None:
        del commands["mlflow"]
    elif places.mlflow_database is not None:
        own["mlflow"] = _on_postgres(home, places.mlflow_database)
    if webhook is not None:
        commands[INTAKE] = [sys.executable, "-m", "llmops_assets.intake", "--port", str(home.intake_port)]
        own[INTAKE] = _named_variables(webhook)
    return [
        Program(
            name,
            (_installed(command[0]), *command[1:]),
            home.repository,
            variables | own.get(name, {}),
            stop_wait_seconds=15,
        )
        for name, command in commands.items()
    ]


def write_dagster_instance(home: Home, places: Places = NOWHERE_ELSE) -> None:
    """dagster.yaml and the workspace, in home/dagster."""
    folder = home.folder("dagster")
    instance: dict[str, Any] = {
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "run_queue": {"dequeue_interval_seconds": 1},
        # one release a model at a time; a UI launch carries the same partition tag as a sensor's
        "concurrency": {
            "runs": {
                "max_concurrent_runs": 4,
                "tag_concurrency_limits": [
                    {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
                ],
            },
            "pools": {"granularity": "op"},  # resources/jobs/gpu_pool.py
        },
        "run_monitoring": {
            "enabled": True,
            "start_timeout_seconds": 120,
            "poll_interval_seconds": 10,
            "free_slots_after_run_end_seconds": 30,  # GPUs that a killed run held
        },
        "retention": {
            "sensor": {"purge_after_days": TICK_RETENTION_DAYS},
            "schedule": {"purge_after_days": TICK_RETENTION_DAYS},
        },
    }
    if places.dagster is not None:
        instance["storage"] = dagster_storage(places.dagster)
    location = {"grpc_server": {"host": HOST, "port": home.code_port, "location_name": LOCATION}}
    # JSON is YAML; both files are rewritten only by rename, for daemons that read them
    publish_text(folder / "dagster.yaml", json.dumps(instance, indent=2))
    publish_text(folder / "workspace.yaml", json.dumps({"load_from": [location]}, indent=2))


def _environment(home: Home) -> dict[str, str]:
    return {
        **home.as_environment(),
        "PATH": _search_path(),
        **mlflow_environment(home.folder("mlflow")),
        "DAGSTER_DISABLE_TELEMETRY": "true",
    }


def _on_postgres(home: Home, database: Postgres) -> dict[str, str]:
    url = database_url(database, os.environ).render_as_string(hide_password=False)
    return mlflow_environment(home.folder("mlflow"), url)


def _named_variables(webhook: Webhook) -> dict[str, str]:
    """The variables of this shell that hold the webhooks' secrets: a supervised program has no shell of its own."""
    names = [secret.env for secret in (webhook.github, webhook.gitlab) if secret is not None and secret.env]
    for name in names:
        if not os.environ.get(name):
            raise EnvironmentLacks(f"the settings read a webhook's secret from the variable {name}, which is not set")
    return {name: os.environ[name] for name in names}


def _search_path() -> str:
    """This environment's programs, the ones we call, the system's: not the shell's own PATH, which differs from shell
    to shell and would restart the platform under a running release."""
    called = [Path(found).parent for name in ("git", "ssh-keygen") if (found := shutil.which(name))]
    folders = [Path(sys.executable).parent, *called, Path("/usr/local/bin"), Path("/usr/bin"), Path("/bin")]
    return os.pathsep.join(dict.fromkeys(map(str, folders)))


def _installed(program: str) -> str:
    """The program of this Python environment, whatever PATH says."""
    return program if Path(program).is_absolute() else str(Path(sys.executable).with_name(program))
