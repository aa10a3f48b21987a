"""Dagster's own sensor daemon, killed at the n-th boundary between two of its steps; then started again.

    python -m tests.fakes.killed_daemon FOLDER

FOLDER holds a repository and a platform's home. For n = 1, 2, … a copy of it gets: a tick that dies at boundary n (the
process ends at once, without cleaning up), then two whole ticks, then one line of JSON on standard output that says
what came of it. The last line is the attempt that met no n-th boundary. Each attempt is a forked process.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, Definitions
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget, create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon import sensor as daemon

from llmops_assets.definitions import build
from resources.home import Home, home_from
from resources.host.platform_programs import write_dagster_instance
from resources.ledger.ledger import SqlLedger

KILLED = 9
STEPS: dict[type, tuple[str, ...]] = {
    SqlLedger: ("append",),
    DagsterInstance: (
        *("create_tick", "update_tick", "create_run", "submit_run", "update_instigator_state"),
        *("add_dynamic_partitions", "report_run_canceled"),
    ),
}


def location() -> Definitions:
    """The platform's definitions with the repository sensor alone."""
    whole = build(home_from(os.environ, Path.cwd()))
    kept = [one for one in whole.sensors or () if getattr(one, "name", "") == "repository"]
    return Definitions(
        assets=whole.assets, jobs=whole.jobs, sensors=kept, resources=whole.resources, executor=whole.executor
    )


def tick(home: Home) -> None:
    """One round of the daemon over all sensors."""
    os.environ.update(home.as_environment())
    write_dagster_instance(home)
    origin = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="tests.fakes.killed_daemon", attribute="location"
    )
    target = InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(origin, location_name="llmops_assets"))
    daemon.is_under_min_interval = lambda *_, **__: False  # the test does not wait a quarter of a minute
    with (
        DagsterInstance.from_config(str(home.root / "dagster")) as instance,
        create_test_daemon_workspace_context(target, instance) as context,
    ):
        for error in daemon.execute_sensor_iteration(context, logging.getLogger("daemon"), None, None):
            assert error is None, error


def deadly(at: int) -> None:
    """Every step counts twice, before and after; the process ends at the `at`-th boundary."""
    passed = 0

    def boundary() -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            os._exit(KILLED)

    def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            boundary()
            result = method(*arguments, **named)
            boundary()
            return result

        return step

    for owner, names in STEPS.items():
        for name in names:
            setattr(owner, name, wrapped(getattr(owner, name)))


def found(home: Home) -> dict[str, Any]:
    """What came of it: requests by revision, runs by request and status, the cursor's revision."""
    facts = SqlLedger(home.ledger_url).facts()
    with DagsterInstance.from_config(str(home.root / "dagster")) as instance:
        runs = [[run.tags["dagster/run_key"], run.status.value] for run in instance.get_runs()]
        states = [state.instigator_data for state in instance.all_instigator_state()]
    cursors = [json.loads(state.cursor)["revision"] for state in states if state and state.cursor]
    asked = [fact.body["revision"] for fact in facts if fact.kind == "requested"]
    return {"requested": asked, "runs": sorted(runs), "cursors": cursors}


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a forked process that does the work."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            logging.exception("the daemon ended badly")
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def attempt(origin: Path, number: int) -> int:
    """Exit code of the tick that is to die."""
    folder = origin.with_name(f"{origin.name}-{number}")
    shutil.copytree(origin, folder, symlinks=True)
    home = Home(folder / "repository", folder / "home", 20000)

    def die() -> None:
        deadly(number)
        tick(home)

    ended = in_child(die)
    for _ in range(2):
        assert in_child(lambda: tick(home)) == 0
    assert in_child(lambda: print(json.dumps({"boundary": number, "ended": ended, **found(home)}))) == 0
    shutil.rmtree(folder)
    return ended


def main() -> None:
    origin, number = Path(sys.argv[1]), 1
    while attempt(origin, number) == KILLED:
        number += 1


if __name__ == "__main__":
    if len(sys.argv) == 3:  # one whole tick, to prepare what is to be killed
        folder = Path(sys.argv[1])
        tick(Home(folder / "repository", folder / "home", 20000))
    else:
        main()
