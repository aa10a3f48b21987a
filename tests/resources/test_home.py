"""Where a platform lives: found from anywhere inside a clone, and refused where it cannot be."""

from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError
from resources.home import PORTS_TAKEN, Home, home_from


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    return tmp_path / "clone"


def test_a_folder_inside_the_clone_found_no_repository(clone: Path) -> None:
    (clone / "a" / "b").mkdir(parents=True)
    assert home_from({}, clone / "a" / "b") == Home(clone, clone / ".llmops", 8600, "local")


def test_a_worktree_whose_git_is_a_file_found_no_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    assert home_from({}, tmp_path).repository == tmp_path


def test_no_repository_gave_a_platform(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="run this inside a clone"):
        home_from({}, tmp_path)


def test_variables_did_not_move_the_platform(clone: Path, tmp_path: Path) -> None:
    variables = {"LLMOPS_HOME": str(tmp_path / "state"), "LLMOPS_PORT_BASE": "9000", "LLMOPS_ENVIRONMENT": "staging"}
    home = home_from(variables | {"LLMOPS_REPOSITORY": str(clone)}, tmp_path)
    assert home == Home(clone, tmp_path / "state", 9000, "staging")
    assert home_from(home.as_environment(), Path("/")) == home


def test_empty_variables_meant_something(clone: Path) -> None:
    assert home_from(dict.fromkeys(("LLMOPS_HOME", "LLMOPS_PORT_BASE", "LLMOPS_ENVIRONMENT"), ""), clone) == home_from(
        {}, clone
    )


@pytest.mark.parametrize("base", ["80", "1023", str(65535 - PORTS_TAKEN + 1), "8600.5", "-1", "abc", " 8600"])
def test_a_port_that_cannot_be_was_taken(clone: Path, base: str) -> None:
    with pytest.raises(InputError, match="LLMOPS_PORT_BASE"):
        home_from({"LLMOPS_PORT_BASE": base}, clone)


def test_two_parts_shared_a_port(clone: Path) -> None:
    home = home_from({}, clone)
    ports = [home.gateway_port, home.dagster_port, home.mlflow_port, home.envoy_admin_port, home.code_port]
    ports.append(home.intake_port)
    assert len(set(ports)) == 6 and max(ports) < home.port_base + 10  # the model servers begin there
