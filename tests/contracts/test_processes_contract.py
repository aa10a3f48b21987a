"""What every process keeper promises, asked of the one in memory and of supervisord."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_core.errors import EnvironmentLacks, InputError, TransientError
from resources.host.processes import Processes, Program, SupervisorProcesses
from tests.fakes.processes import FakeProcesses


@pytest.fixture(params=["fake", "supervisord"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    made: Processes = FakeProcesses() if request.param == "fake" else SupervisorProcesses(tmp_path)
    yield made
    made.stop()


def sleeper(name: str = "sleeper", seconds: int = 1000) -> Program:
    return Program(name, (sys.executable, "-c", f"import time; time.sleep({seconds})"), Path("/"), stop_wait_seconds=2)


def pid_of(keeper: Processes, name: str) -> int:
    state = keeper.state_of(name)
    assert state is not None and state.pid is not None, state
    return state.pid


def test_putting_the_same_program_again_does_not_restart_it(keeper: Processes) -> None:
    keeper.start()
    keeper.put(sleeper())
    first = pid_of(keeper, "sleeper")
    keeper.put(sleeper())
    assert pid_of(keeper, "sleeper") == first


def test_a_changed_program_replaces_the_running_one(keeper: Processes) -> None:
    keeper.start()
    keeper.put(sleeper())
    first = pid_of(keeper, "sleeper")
    keeper.put(sleeper(seconds=1001))
    assert pid_of(keeper, "sleeper") != first
    assert len(keeper.programs()) == 1


def test_a_removed_program_is_gone_and_removing_it_again_is_fine(keeper: Processes) -> None:
    keeper.start()
    keeper.put(sleeper())
    keeper.put(sleeper("other.program"))
    keeper.remove("sleeper")
    keeper.remove("sleeper")
    assert [state.name for state in keeper.programs()] == ["other.program"]


def test_what_was_put_comes_back_after_a_stop(keeper: Processes) -> None:
    keeper.start()
    keeper.put(sleeper())
    keeper.stop()
    with pytest.raises(TransientError):
        keeper.programs()
    keeper.start()
    deadline = time.monotonic() + 5
    while (state := keeper.state_of("sleeper")) is None or not state.alive:
        assert time.monotonic() < deadline, state
        time.sleep(0.01)


@pytest.mark.parametrize("running", [True, False])
def test_what_was_forgotten_came_back(keeper: Processes, running: bool) -> None:
    keeper.start()
    keeper.put(sleeper())
    if not running:
        keeper.stop()
    keeper.forget()
    keeper.start()
    assert keeper.programs() == []


def test_starting_twice_is_starting_once(keeper: Processes) -> None:
    keeper.start()
    keeper.put(sleeper())
    first = pid_of(keeper, "sleeper")
    keeper.start()
    assert pid_of(keeper, "sleeper") == first


def test_programs_began_although_what_comes_first_was_refused(keeper: Processes) -> None:
    asked: list[str] = []

    def refuse() -> None:
        raise EnvironmentLacks("no")

    keeper.start(lambda: asked.append("at the start"))
    keeper.put(sleeper())
    keeper.start(lambda: asked.append("while it runs"))
    keeper.stop()
    with pytest.raises(EnvironmentLacks):
        keeper.start(refuse)
    with pytest.raises(TransientError):
        keeper.programs()
    assert asked == ["at the start"]


def test_nothing_can_be_kept_before_the_keeper_runs(keeper: Processes) -> None:
    with pytest.raises(TransientError):
        keeper.put(sleeper())


@pytest.mark.parametrize("name", ["", "a b", "a:b", "../a", "a\nb", "-a", "a]b", "a" * 201])
def test_names_that_would_escape_their_file_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        Program(name, ("true",), Path("/"))
