"""The daemon ends between two steps and is started again: a change was lost, or acted twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.git_with_data import ROOT, GitWithData, made_repository

# Each boundary takes three processes that load Dagster's instance, and there are dozens.
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_repository(tmp_path / "platform" / "repository")
    (tmp_path / "platform" / "home").mkdir()
    return tmp_path / "platform"


def program(folder: Path, *more: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.fakes.killed_daemon", str(folder), *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"boundary"')]


def test_a_daemon_killed_anywhere_lost_the_first_commit_or_released_it_twice(folder: Path) -> None:
    attempts = program(folder)
    head = GitWithData(folder / "repository").head
    assert len(attempts) > 10 and attempts[-1]["ended"] == 0  # every boundary was met
    for each in attempts:
        assert each["requested"] == [head] and each["cursors"] == [head], each
        assert [status for _, status in each["runs"]] == ["QUEUED"], each


def test_a_daemon_killed_anywhere_left_two_releases_queued_or_none(folder: Path) -> None:
    program(folder, "once")
    repository = GitWithData(folder / "repository")
    first = repository.head
    second = repository.commit_model("training", seed=2, message="a newer one")
    attempts = program(folder)
    assert len(attempts) > 10 and attempts[-1]["ended"] == 0
    for each in attempts:
        assert each["requested"] == [first, second] and each["cursors"] == [second], each
        ended = {key.split(":")[-2]: status for key, status in each["runs"]}
        assert ended == {"1": "CANCELED", "2": "QUEUED"} and len(each["runs"]) == 2, each
