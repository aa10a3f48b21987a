"""Jobs as child processes in a real Dagster run: what they say arrives, and how they end decides who acts."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dagster import AssetExecutionContext, MaterializeResult, asset, materialize

from llmops_core.errors import InputError, LlmopsError, TransientError
from resources.jobs.jobs import Asked, Job, LocalJobs, _wait, started

ROOT = Path(__file__).parents[2]

RECIPE = """
import json, os, sys
from pathlib import Path
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    for done in (1, 2):
        pipes.report_custom_message({"progress": {"done": done, "total": 2, "loss": 0.5}})
    pipes.log.info("said over pipes")
seen = {"cwd": os.getcwd(), "path": os.environ["PYTHONPATH"], "own": os.environ["OWN"]}
Path(sys.argv[-1]).with_name("seen.json").write_text(json.dumps(seen))
"""
ENDS = {
    "input": "import sys; print('reading\\nrows.jsonl: line 3 is no object', file=sys.stderr); sys.exit(65)",
    "silent": "import sys; sys.exit(65)",
    "crash": "import sys; print('out of memory', file=sys.stderr); sys.exit(9)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "raises": "raise ValueError('a defect')",
}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code" / "recipes"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    for name, text in {"speaks": RECIPE, **ENDS}.items():
        (folder / f"{name}.py").write_text(text)
    return folder.parent


def _run(code: Path, recipe: str) -> tuple[list[dict], list[BaseException], list[str]]:
    """(progress, errors, log lines of the Dagster run) of one job."""
    progress: list[dict] = []
    errors: list[BaseException] = []

    @asset
    def made(context: AssetExecutionContext) -> MaterializeResult:
        asked = Asked("tiny", "weights", "f" * 64)
        job = Job(recipe, {}, {}, code, code.parent / "work", asked, environment={"OWN": "variable"})
        try:
            LocalJobs().run(job, context, progress.append)
        except LlmopsError as error:
            errors.append(error)
        return MaterializeResult()

    done = materialize([made])
    assert done.success
    return progress, errors, [event.message or "" for event in done.all_events]


def test_progress_did_not_arrive_or_the_recipe_ran_from_elsewhere(code: Path, tmp_path: Path) -> None:
    progress, errors, _ = _run(code, "speaks")
    assert errors == [] and [each["done"] for each in progress] == [1, 2] and progress[0]["loss"] == 0.5
    assert json.loads((tmp_path / "work" / "seen.json").read_text()) == {
        "cwd": str(code),
        "path": str(code),
        "own": "variable",
    }


def test_an_error_of_the_input_was_tried_again(code: Path) -> None:
    _, (error,), _ = _run(code, "input")
    assert isinstance(error, InputError)
    assert error.problems[0].message == "rows.jsonl: line 3 is no object" and "input.py" in error.problems[0].file


def test_a_recipe_that_says_nothing_gave_no_error(code: Path) -> None:
    _, (error,), _ = _run(code, "silent")
    assert isinstance(error, InputError) and error.problems[0].message == "it gave no reason"


@pytest.mark.parametrize(
    ("recipe", "told"),
    [("crash", "with exit code 9.*\nout of memory"), ("killed", "by signal 9"), ("raises", "exit code 1.*a defect")],
)
def test_a_crash_was_blamed_on_the_input(code: Path, recipe: str, told: str) -> None:
    _, (error,), _ = _run(code, recipe)
    assert isinstance(error, TransientError)
    assert re.search(told, str(error), re.DOTALL)


def test_last_words_of_an_earlier_run_explained_this_one(code: Path) -> None:
    _run(code, "crash")
    _, (error,), _ = _run(code, "killed")
    assert "out of memory" not in str(error)


DIES = """
import os, signal, sys
from pathlib import Path
from resources.jobs.jobs import started
process = started(["sleep", "60"], Path("/"), {"PATH": os.environ["PATH"]}, sys.stderr.buffer)
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
def test_a_run_that_was_killed_left_its_job_running() -> None:
    told = subprocess.run([sys.executable, "-c", DIES], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    left = Path("/proc") / told.stdout.strip() / "stat"
    until = time.monotonic() + 20
    while left.exists() and left.read_text().split()[2] != "Z":
        assert time.monotonic() < until, "it goes on for nobody"
        time.sleep(0.01)
    assert told.returncode == -signal.SIGKILL


def test_a_cancelled_run_left_its_job_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also when whatever started the run ignores the signal: children take that over."""
    heard = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with (tmp_path / "log").open("wb") as log:
            process = started([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, os.environ, log)
    finally:
        signal.signal(signal.SIGTERM, heard)
    wait = process.wait
    interruptions = iter([KeyboardInterrupt()])

    def interrupted_once(timeout: float | None = None) -> int:
        for interruption in interruptions:
            raise interruption
        return wait(timeout)

    monkeypatch.setattr(process, "wait", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        _wait(process)
    assert process.returncode == -signal.SIGTERM
