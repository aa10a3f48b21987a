"""A signed push and the real daemon: the tick comes long before the sensor's interval would have made one."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.core.test_webhook import PUSH, SECRET, as_bytes, github
from tests.fakes.ports import free_port_base

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 600
SENSOR = f"""
import time
from dagster import DefaultSensorStatus, Definitions, SensorResult, SkipReason, sensor

@sensor(name="repository", minimum_interval_seconds={INTERVAL_SECONDS}, default_status=DefaultSensorStatus.RUNNING)
def repository(context):
    with open(__file__ + ".ticks", "a") as file:
        file.write(f"{{time.time()}} {{context.cursor}}\\n")
    return SensorResult(skip_reason=SkipReason("looked"), cursor=str(int(context.cursor or 0) + 1))

defs = Definitions(sensors=[repository])
"""


@contextmanager
def program(*command: str, cwd: Path, environment: dict[str, str]) -> Iterator[None]:
    with (cwd / f"{Path(command[0]).name}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def ticks(folder: Path) -> list[tuple[float, str]]:
    """When each tick of the sensor began to work, and with which cursor."""
    file = folder / "sensors.py.ticks"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(float(at), cursor) for at, cursor in (line.split() for line in lines)]


def wait_for_tick(folder: Path, count: int, seconds: float) -> float:
    deadline = time.monotonic() + seconds
    while len(ticks(folder)) < count:
        assert time.monotonic() < deadline, f"no tick {count} within {seconds:.0f} s"
        time.sleep(0.05)
    return ticks(folder)[count - 1][0]


def push(url: str, secret: bool = True) -> int:
    body = as_bytes(PUSH)
    headers = {"Content-Type": "application/json", **(github(body) if secret else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def wait_for_page(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "config").mkdir()
    settings = (ROOT / "config" / "local.yaml").read_text() + "\nwebhook: {github: {env: GITHUB_WEBHOOK}}\n"
    (tmp_path / "config" / "local.yaml").write_text(settings)
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "sensors.py").write_text(SENSOR)
    return tmp_path


@pytest.mark.slow  # five pushes, each of which waits for the daemon's next look, 5 s apart
def test_a_push_waited_for_the_polling_or_cost_the_cursor(folder: Path) -> None:
    base = free_port_base()
    url = f"http://127.0.0.1:{base + 5}"
    environment = {
        **{"LLMOPS_REPOSITORY": str(folder), "LLMOPS_HOME": str(folder), "LLMOPS_PORT_BASE": str(base)},
        **{"DAGSTER_HOME": str(folder / "dagster"), "GITHUB_WEBHOOK": SECRET, "PYTHONPATH": str(ROOT)},
    }
    daemon = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-f", "sensors.py"]
    intake = [sys.executable, "-m", "llmops_assets.intake", "--port", str(base + 5)]
    waited: list[float] = []
    with program(*daemon, cwd=folder, environment=environment):
        wait_for_tick(folder, 1, seconds=120)
        with program(*intake, cwd=folder, environment=environment):
            wait_for_page(f"{url}/health")
            assert push(f"{url}/webhooks/github", secret=False) == 401
            assert push(f"{url}/webhooks/gitlab") == 404
            for number in range(2, 7):
                pushed = time.time()
                assert push(f"{url}/webhooks/github") == 202
                assert push(f"{url}/webhooks/github") == 202  # delivered twice: one look, or two, no harm
                waited.append(wait_for_tick(folder, number, seconds=INTERVAL_SECONDS / 10) - pushed)
                time.sleep(1.3)  # no two pushes at the same moment of the daemon's turn
    print("seconds from push to tick:", [round(one, 2) for one in waited])
    assert max(waited) < INTERVAL_SECONDS / 10
    assert [cursor for _, cursor in ticks(folder)] == ["None", *map(str, range(1, len(ticks(folder))))]
    logs = "".join(file.read_text() for file in folder.glob("*.log"))
    assert SECRET not in logs and "Traceback" not in logs
