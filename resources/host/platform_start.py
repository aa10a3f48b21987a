"""Bringing one machine's platform up and down: its programs, in order, until each of them answers."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.routing import Deployment
from resources.home import PORTS_TAKEN
from resources.host.machine import is_free
from resources.host.marked_processes import has_mark, listening_at
from resources.host.platform_programs import INTAKE, platform_programs
from resources.host.supervisor_config import home_mark
from resources.storage.publishing import publish_text
from resources.wiring import Platform

START_LIMIT_SECONDS = 120.0
MODEL_LIMIT_SECONDS = 30.0
ANSWER_LIMIT_SECONDS = 2.0
LOADED = (
    '{"query": "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"}'
)


@dataclass(frozen=True)
class Part:
    """One part of the platform: the supervised program behind it, the page that is open, and whether it answers."""

    name: str
    program: str
    port: int
    url: str
    answers: Callable[[], bool]


def parts(platform: Platform) -> list[Part]:
    home = platform.home
    registry = Part(
        "MLflow", "mlflow", home.mlflow_port, home.mlflow_url, lambda: _answers(f"{home.mlflow_url}/health")
    )
    page = f"{home.gateway_url}/health"
    gateway = Part("gateway", "gateway", home.gateway_port, home.gateway_url, lambda: _answers(page))
    found = [
        *([gateway] if _serves_here(platform) else []),
        *([registry] if platform.settings.platform.mlflow is None else []),
        Part("Dagster", "dagster", home.dagster_port, home.dagster_url, lambda: _dagster_loaded(home.dagster_url)),
    ]
    if platform.settings.webhook is not None:
        page = f"{home.intake_url}/health"
        found.append(Part("webhooks", INTAKE, home.intake_port, f"{home.intake_url}/webhooks", lambda: _answers(page)))
    return found


def start(platform: Platform) -> Iterator[str]:
    """Starts what does not run yet and yields a sentence for each part as it answers. Safe to repeat at any time.

    Raises EnvironmentLacks for a port that another program holds, TransientError for a part that does not come up,
    with the last lines of its log. A model that does not come up is told of only: the others are not held up by it.
    """
    home = platform.home
    programs = platform_programs(home, platform.settings.webhook, platform.settings.platform)
    _settle_ports(platform)
    # Programs that were not removed begin with the keeper, and would wait at a taken port until they are given up; what
    # a killed keeper left behind on our own ports is ended before we look.
    platform.processes.start(lambda: _refuse_foreign_ports(platform, frozenset()))
    if platform.settings.webhook is None:
        platform.processes.remove(INTAKE)
    if platform.settings.platform.mlflow is not None:
        platform.processes.remove("mlflow")
    alive = {state.name for state in platform.processes.programs() if state.alive}
    try:
        _refuse_foreign_ports(platform, alive)
    except EnvironmentLacks:
        if not alive:
            platform.processes.stop()  # nothing is left of a start that was refused
        raise
    models = _started_models(platform)
    _make_dagster_storage(platform, programs[-1].environment)
    for program in programs:
        platform.processes.put(program)
    for part in parts(platform):
        seconds = _wait(platform, part)
        yield f"{part.name} answers at {part.url} after {seconds:.0f} s"
    for deployment in models:
        yield _told_of_model(platform, deployment)


def _serves_here(platform: Platform) -> bool:
    return platform.settings.serving.kind == "local"


def _started_models(platform: Platform) -> list[Deployment]:
    """The model servers of this machine, behind its gateway; a cluster keeps its own servers and routes."""
    if not _serves_here(platform):
        platform.processes.remove("gateway")
        return []
    models = platform.serving.start()
    platform.gateway.start(models)
    return models


def stop(platform: Platform) -> None:
    platform.processes.stop()


def running(platform: Platform) -> bool:
    """Whether every part answers now."""
    return _ours(platform) and all(part.answers() for part in parts(platform))


def _settle_ports(platform: Platform) -> None:
    """Under another base than last time every program is forgotten: it is put again, with ports of this base.

    Nothing else remembers a port for good: model servers and routes get their addresses when the platform starts, and
    where something is reached is computed when it is shown.
    """
    home = platform.home
    file, wanted = home.root / "port_base", str(home.port_base)
    known = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    if known == wanted:
        return
    if known and _ours(platform):
        advice = f"end it with `llmops stop`, or set LLMOPS_PORT_BASE={known}"
        raise EnvironmentLacks(f"this platform runs on the ports from {known}, not from {wanted}: {advice}")
    platform.processes.forget()
    publish_text(file, f"{wanted}\n")


def _told_of_model(platform: Platform, deployment: Deployment) -> str:
    try:
        platform.serving.wait_ready(deployment, MODEL_LIMIT_SECONDS)
    except (IntegrityError, TransientError) as error:
        return f"{deployment.name} does not answer: {error}"
    return f"{deployment.name} answers"


def _make_dagster_storage(platform: Platform, environment: Mapping[str, str]) -> None:
    """Once, by one program alone: three that find no database would each make it, and spoil it for all."""
    made, database = platform.home.root / "dagster" / "storage-made", platform.settings.platform.dagster
    place = "" if database is None else f"{database.host}:{database.port}/{database.database}\n"
    if made.exists() and made.read_text(encoding="utf-8") == place:
        return
    command = [str(Path(sys.executable).with_name("dagster")), "instance", "info"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode != 0:
        raise TransientError(f"Dagster's storage could not be made: {done.stderr.strip()[-2000:]}")
    publish_text(made, place)


def _ours(platform: Platform) -> bool:
    try:
        return any(state.alive for state in platform.processes.programs())
    except TransientError:
        return False


def _wait(platform: Platform, part: Part) -> float:
    begun = time.monotonic()
    while not part.answers():
        state = platform.processes.state_of(part.program)
        gone = state is None or state.state == "FATAL"
        if gone or time.monotonic() - begun > START_LIMIT_SECONDS:
            log = platform.processes.log_tail(part.program)
            raise TransientError(f"{part.name} does not answer at {part.url}; the last lines of its log:\n{log}")
        time.sleep(0.2)
    return time.monotonic() - begun


def _refuse_foreign_ports(platform: Platform, alive: Collection[str]) -> None:
    """Raises EnvironmentLacks for a port that is not ours to have. A program that is alive may hold its own."""
    needed = [(part.program, part.name, part.port) for part in parts(platform)]
    for program, name, port in (*needed, ("code", "the code location", platform.home.code_port)):
        if is_free(port):
            continue
        holder = listening_at(port)
        if program in alive and (holder is None or has_mark(holder, home_mark(platform.home.root))):
            continue
        by = "another program" if holder is None else f"{holder.name()} (process {holder.pid})"
        raise EnvironmentLacks(
            f"port {port}, which {name} needs, is in use by {by}: end it, or choose other ports with LLMOPS_PORT_BASE "
            f"({PORTS_TAKEN} ports from there are used; LLMOPS_HOME separates two platforms)"
        )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_LIMIT_SECONDS) as response:  # noqa: S310 (our own address)
            return response.status == 200
    except OSError:
        return False


def _dagster_loaded(url: str) -> bool:
    """The UI answers early; a run can be launched only when the code location is loaded too."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/graphql", LOADED.encode(), headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_SECONDS) as response:  # noqa: S310
            found = json.load(response)["data"]["workspaceOrError"].get("locationEntries") or []
    except (OSError, ValueError, KeyError):
        return False
    states = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in found]
    return bool(states) and all(state == "RepositoryLocation" for state in states)
