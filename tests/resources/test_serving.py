"""Supervised model servers: what only the real ones can get wrong."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmops_core.errors import IntegrityError, TransientError
from llmops_core.verdict import Verdict
from resources.host.processes import Program, SupervisorProcesses
from resources.serving.serving import LocalServing, llama_command
from tests.contracts.test_serving_contract import command, plan
from tests.fakes.ports import free_port_base
from tests.fakes.processes import FakeProcesses


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[SupervisorProcesses]:
    made = SupervisorProcesses(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def serving(tmp_path: Path, processes: SupervisorProcesses) -> LocalServing:
    return LocalServing(tmp_path, free_port_base(), processes, command)


def test_the_same_plan_keeps_the_server_running(serving: LocalServing, processes: SupervisorProcesses) -> None:
    deployment = serving.deploy(plan())
    serving.wait_ready(deployment, 10)
    pid = processes.state_of("serve.atlas-qa-1.0").pid
    assert serving.deploy(plan()) == deployment
    assert processes.state_of("serve.atlas-qa-1.0").pid == pid


def test_a_foreign_port_is_passed_over(serving: LocalServing) -> None:
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", serving._ports[0]))
        foreign.listen()
        assert serving.deploy(plan()).port == serving._ports[1]


def test_a_deployment_moves_when_its_port_was_taken_while_it_was_down(serving: LocalServing, processes) -> None:
    first = serving.deploy(plan())
    serving.wait_ready(first, 10)
    processes.remove("serve.atlas-qa-1.0")
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", first.port))
        foreign.listen()
        moved = serving.deploy(plan())
        assert moved.port != first.port
        assert serving.running() == [moved]
        serving.wait_ready(moved, 10)


def test_another_program_on_its_port_passed_for_the_server(serving: LocalServing, processes) -> None:
    deployment = serving.deploy(plan())
    serving.wait_ready(deployment, 10)
    assert "holds port" in serving.witness(deployment.name)
    processes.remove("serve.atlas-qa-1.0")
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", deployment.port))
        foreign.listen()
        processes.put(Program("serve.atlas-qa-1.0", ("sleep", "60"), Path.cwd()))
        with pytest.raises(IntegrityError, match="another program"):
            serving.witness(deployment.name)


def test_a_server_that_is_down_was_called_forged(serving: LocalServing, processes) -> None:
    deployment = serving.deploy(plan())
    serving.wait_ready(deployment, 10)
    processes.remove("serve.atlas-qa-1.0")
    with pytest.raises(TransientError, match="listens"):
        serving.witness(deployment.name)


def test_a_server_that_crashes_at_start_is_told_with_its_last_words(serving: LocalServing) -> None:
    deployment = serving.deploy(plan(alias="crash"))
    begun = time.monotonic()
    with pytest.raises(IntegrityError, match="out of memory"):
        serving.wait_ready(deployment, 60)
    assert time.monotonic() - begun < 30
    assert serving.health(deployment.name).verdict is Verdict.FAILED


def test_a_server_that_is_still_loading_is_not_ready(serving: LocalServing, tmp_path: Path) -> None:
    def loading(plan, port):
        return (*command(plan, port), "60")

    slow = LocalServing(tmp_path, serving._ports[0] - 10, serving._processes, loading)
    deployment = slow.deploy(plan())
    with pytest.raises(TransientError, match=r"not ready after .* (answers 503|does not answer)"):
        slow.wait_ready(deployment, 1.0)


def test_servers_come_back_after_the_keeper_was_killed(serving: LocalServing, processes, tmp_path: Path) -> None:
    deployment = serving.deploy(plan())
    serving.wait_ready(deployment, 10)
    os.kill(int((tmp_path / "supervisor" / "supervisord.pid").read_text()), signal.SIGKILL)
    processes.start()
    serving.wait_ready(deployment, 10)
    assert serving.running() == [deployment]


def test_two_processes_deploying_at_once_choose_two_ports(serving: LocalServing, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from resources.host.processes import Program, SupervisorProcesses
from resources.serving.serving import LocalServing
from tests.contracts.test_serving_contract import command, plan
home, base, name = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print(LocalServing(home, base, SupervisorProcesses(home), command).deploy(plan(name)).port)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path), str(serving._ports[0] - 10)]
    root = Path(__file__).parents[2]
    started = [subprocess.Popen([*arguments, name], stdout=subprocess.PIPE, cwd=root) for name in ("a", "b", "c")]
    ports = [one.communicate(timeout=60)[0] for one in started]
    assert len(set(ports)) == 3
    assert [one.name for one in serving.running()] == ["a", "b", "c"]


@pytest.mark.parametrize("after", ["file", "program"])
def test_a_kill_inside_deploy_is_mended_by_deploying_again(tmp_path: Path, monkeypatch, after: str) -> None:
    processes = FakeProcesses()
    processes.start()
    serving = LocalServing(tmp_path, free_port_base(), processes, command)
    put = processes.put

    def dying(program) -> None:
        if after == "program":
            put(program)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "put", dying)
    with pytest.raises(KeyboardInterrupt):
        serving.deploy(plan())
    monkeypatch.undo()
    [described] = serving.running()
    assert serving.deploy(plan()) == described
    assert list(processes.kept) == ["serve.atlas-qa-1.0"]


def test_a_damaged_description_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "one.json").write_text('{"deployment": {"name": "one"}}')
    with pytest.raises(IntegrityError):
        LocalServing(tmp_path, 8600, FakeProcesses(), command).running()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "x" * 152])
def test_names_that_would_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        plan(name)


def test_the_command_is_the_one_that_the_server_program_understands() -> None:
    from recipes.serve import _parser

    words = llama_command(plan(), 8610)
    assert words[:3] == (sys.executable, "-m", "recipes.serve")
    options = _parser().parse_args(list(words[3:]))
    assert (options.port, options.alias, options.context_tokens, options.parallel, options.threads) == (
        *(8610, "atlas-qa", 128, 4, 1),
    )
