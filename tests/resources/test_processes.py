"""supervisord as the keeper: what only the real one can get wrong."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, TransientError
from resources.host.marked_processes import MARK
from resources.host.processes import Program, SupervisorProcesses
from resources.host.supervisor_config import LONGEST_SOCKET_PATH, home_mark, socket_path

PRINT = (
    "import json,os,sys; "
    "print(json.dumps([sys.argv[1:], os.environ['ODD'], os.getcwd()]), flush=True); import time; time.sleep(1000)"
)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[SupervisorProcesses]:
    made = SupervisorProcesses(tmp_path)
    made.start()
    yield made
    made.stop()


def sleeper(name: str = "sleeper", seconds: int = 1000) -> Program:
    return Program(name, (sys.executable, "-c", f"import time; time.sleep({seconds})"), Path("/"), stop_wait_seconds=2)


def keeper_pid(home: Path) -> int:
    return int((home / "supervisor" / "supervisord.pid").read_text())


def marked(home: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == home_mark(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_for(what, limit_seconds: float = 8.0):
    deadline = time.monotonic() + limit_seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def test_arguments_and_variables_arrive_as_they_were_written(keeper: SupervisorProcesses, tmp_path: Path) -> None:
    odd = "100% %(here)s 'one' \"two\" ; three # four\nfive \\ $HOME äöü"
    keeper.put(Program("odd", (sys.executable, "-c", PRINT, odd, ""), tmp_path, {"ODD": odd}))
    line = wait_for(lambda: keeper.log_tail("odd"))
    assert json.loads(line) == [[odd, ""], odd, str(tmp_path)]


def test_secrets_stand_in_no_command_line_and_in_no_readable_file(keeper: SupervisorProcesses, tmp_path: Path) -> None:
    keeper.put(Program("quiet", ("sleep", "1000"), tmp_path, {"TOKEN": "very-secret"}))
    pid = keeper.state_of("quiet").pid
    wait_for(lambda: psutil.Process(pid).cmdline() == ["sleep", "1000"])
    holding = [file for file in tmp_path.rglob("*") if file.is_file() and b"very-secret" in file.read_bytes()]
    assert [(file.name, file.stat().st_mode & 0o077) for file in holding] == [("quiet.json", 0)]


def test_a_killed_keeper_is_replaced_and_its_orphans_are_ended(keeper: SupervisorProcesses, tmp_path: Path) -> None:
    keeper.put(sleeper())
    before = marked(tmp_path)
    os.kill(keeper_pid(tmp_path), signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(before[0]) or len(marked(tmp_path)) < len(before))
    keeper.start()
    wait_for(lambda: keeper.state_of("sleeper").alive)
    assert len(marked(tmp_path)) == 2, "the keeper and one sleeper"
    assert not set(before) & set(marked(tmp_path))


def test_a_hanging_keeper_is_replaced(keeper: SupervisorProcesses, tmp_path: Path, monkeypatch) -> None:
    import resources.host.supervisor_rpc as rpc

    keeper.put(sleeper())
    hung = keeper_pid(tmp_path)
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(rpc.call, "__kwdefaults__", {"timeout_seconds": 0.5})
    keeper.start()
    monkeypatch.undo()
    assert keeper_pid(tmp_path) != hung
    assert hung not in marked(tmp_path)


def test_stop_leaves_nothing_behind_not_even_grandchildren(keeper: SupervisorProcesses, tmp_path: Path) -> None:
    code = "import subprocess,time; subprocess.Popen(['sleep','1000'], start_new_session=True); time.sleep(1000)"
    keeper.put(Program("parent", (sys.executable, "-c", code), tmp_path, stop_wait_seconds=2))
    wait_for(lambda: len(marked(tmp_path)) == 3)
    keeper.stop()
    assert marked(tmp_path) == []
    keeper.stop()


def test_a_program_that_ignores_the_end_is_killed(keeper: SupervisorProcesses, tmp_path: Path) -> None:
    code = (
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    )
    keeper.put(Program("deaf", (sys.executable, "-c", code), tmp_path, stop_wait_seconds=1))
    wait_for(lambda: keeper.log_tail("deaf") == "up")
    keeper.remove("deaf")
    assert keeper.programs() == []
    assert len(marked(tmp_path)) == 1


def test_a_program_that_dies_is_started_again(keeper: SupervisorProcesses) -> None:
    keeper.put(sleeper())
    first = wait_for(lambda: keeper.state_of("sleeper").state == "RUNNING" and keeper.state_of("sleeper").pid)
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: keeper.state_of("sleeper").pid not in (None, first))


def test_a_command_that_does_not_exist_says_so(keeper: SupervisorProcesses, tmp_path: Path) -> None:
    keeper.put(Program("missing", ("no-such-program",), tmp_path, autorestart=False))
    wait_for(lambda: "cannot start no-such-program" in keeper.log_tail("missing"))
    assert wait_for(lambda: not keeper.state_of("missing").alive)


def test_putting_an_ended_program_starts_it_again(keeper: SupervisorProcesses, tmp_path: Path) -> None:
    once = Program("once", (sys.executable, "-c", "print('ran', flush=True)"), tmp_path, autorestart=False)
    keeper.put(once)
    wait_for(lambda: keeper.state_of("once").state in ("EXITED", "FATAL"))
    lines = len(keeper.log_tail("once").splitlines())
    keeper.put(once)
    assert wait_for(lambda: len(keeper.log_tail("once").splitlines()) > lines)


def test_a_kill_between_file_and_keeper_is_mended_by_the_next_start(keeper, tmp_path: Path) -> None:
    keeper.put(sleeper())
    programs = tmp_path / "supervisor" / "programs"
    for kind in ("json", "ini"):
        text = (programs / f"sleeper.{kind}").read_text().replace("sleeper", "second")
        (programs / f"second.{kind}").write_text(text)
    keeper.start()
    assert [state.name for state in keeper.programs()] == ["second", "sleeper"]


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    home = tmp_path / ("h" * 60) / ("k" * 60)
    assert len(os.fsencode(socket_path(home))) <= LONGEST_SOCKET_PATH
    assert socket_path(home) != socket_path(home / "other")
    keeper = SupervisorProcesses(home)
    keeper.start()
    try:
        keeper.put(sleeper())
        assert keeper.state_of("sleeper").alive
    finally:
        keeper.stop()
    assert not socket_path(home).parent.exists()


def test_a_socket_folder_prepared_by_someone_else_is_refused(tmp_path: Path) -> None:
    home = tmp_path / ("h" * 100)
    folder = socket_path(home).parent
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(EnvironmentLacks, match="belongs to someone else"):
            SupervisorProcesses(home).start()
    finally:
        folder.unlink()


@pytest.mark.parametrize("odd", ["100%", "a;b", "a#b", "a[b]", "a*b", "a\nb", "a'b", 'a"b'])
def test_a_home_that_supervisord_would_misread_is_refused(tmp_path: Path, odd: str) -> None:
    with pytest.raises(InputError):
        SupervisorProcesses(tmp_path / odd).start()


def test_a_python_that_supervisord_would_misread_breaks_no_other_program(
    keeper: SupervisorProcesses, monkeypatch
) -> None:
    keeper.put(sleeper())
    monkeypatch.setattr(sys, "executable", "/opt/100%/python")
    with pytest.raises(InputError, match="Python"):
        keeper.put(sleeper("other"))
    monkeypatch.undo()
    keeper.put(sleeper("third"))
    assert [state.name for state in keeper.programs()] == ["sleeper", "third"]


def test_a_home_with_a_blank_works(tmp_path: Path) -> None:
    keeper = SupervisorProcesses(tmp_path / "my home")
    keeper.start()
    try:
        keeper.put(sleeper())
        assert keeper.state_of("sleeper").alive
    finally:
        keeper.stop()


def test_starting_from_many_threads_and_processes_gives_one_keeper(tmp_path: Path) -> None:
    imports = "from pathlib import Path; from resources.host.processes import SupervisorProcesses; "
    code = f"{imports}SupervisorProcesses(Path({str(tmp_path)!r})).start()"
    starters = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    try:
        assert [starter.wait(timeout=30) for starter in starters] == [0, 0, 0]
        assert len(marked(tmp_path)) == 1
    finally:
        SupervisorProcesses(tmp_path).stop()


def test_a_supervised_program_does_not_restart_the_keeper_under_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(MARK, home_mark(tmp_path))
    with pytest.raises(TransientError, match="make run"):
        SupervisorProcesses(tmp_path).start()


def test_someone_elses_socket_is_not_obeyed(tmp_path: Path, keeper: SupervisorProcesses) -> None:
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder)
        (other / "supervisor").mkdir()
        socket_path(other).symlink_to(socket_path(tmp_path))
        with pytest.raises(IntegrityError, match="another process keeper"):
            SupervisorProcesses(other).start()


def test_a_keeper_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "supervisord.log").mkdir()
    with pytest.raises(EnvironmentLacks, match="supervisord cannot start"):
        SupervisorProcesses(tmp_path).start()


def test_a_socket_that_never_answers_is_a_transient_error(tmp_path: Path) -> None:
    from resources.host.supervisor_rpc import call

    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        begun = time.monotonic()
        with pytest.raises(TransientError):
            call(path, "getState", timeout_seconds=0.2)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("answers", [True, False])
def test_asking_the_keeper_left_a_socket_open(tmp_path: Path, answers: bool) -> None:
    keeper = SupervisorProcesses(tmp_path)
    if answers:
        keeper.start()
    gc.collect()  # what other tests left is not told of here
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            with nullcontext() if answers else pytest.raises(TransientError):
                keeper.programs()
        gc.collect()
    keeper.stop()
    assert [one for one in told if one.category is ResourceWarning] == []
