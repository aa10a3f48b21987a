"""The command line in a process of its own where it matters how it ends, in this one where it is asked often."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmops_assets.cli import main
from tests.fakes.git_with_data import GitWithData, made_repository
from tests.fakes.ports import free_port_base


@dataclass
class Ended:
    """How a command ended."""

    exit_code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


@pytest.fixture(scope="session")
def repository_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_repository(tmp_path_factory.mktemp("cli") / "repository").path


@pytest.fixture
def clone(repository_template: Path, tmp_path: Path) -> GitWithData:
    """A clone of a team's repository; commands run inside it."""
    shutil.copytree(repository_template, tmp_path / "clone")
    return GitWithData(tmp_path / "clone")


@pytest.fixture
def llmops(clone: GitWithData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    for name in ("LLMOPS_REPOSITORY", "LLMOPS_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMOPS_PORT_BASE", str(free_port_base()))
    monkeypatch.chdir(clone.path)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["llmops", *arguments])
        result = CliRunner().invoke(main, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run
