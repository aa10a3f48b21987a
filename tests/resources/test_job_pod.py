"""The program in a pod: how it starts the recipe that it was sent, and what it says of its own failures."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from llmops_core.errors import InputError, IntegrityError, LlmopsError, Problem, TransientError
from llmops_core.job_outcomes import Outcome, end_by_code
from resources.jobs import job_pod
from resources.jobs.job_pod import VARIABLE, Order, _launcher, main
from resources.jobs.job_relay import Relay
from resources.jobs.job_transport import JobStore
from tests.fakes.memory_s3 import MemoryPlace, MemoryS3


def test_a_recipe_on_several_gpus_lost_what_its_exit_code_means() -> None:
    several = {"PET_NPROC_PER_NODE": "4"}
    assert _launcher({"distributed": True}, several) == ["-m", "recipes.parallel"]
    assert _launcher({"distributed": False}, several) == _launcher({"distributed": True}, {}) == []


FAILURES: dict[Outcome, LlmopsError] = {
    Outcome.ENVIRONMENT_LACKS: InputError(Problem("pod", "LLMOPS_JOB", "s3://b", "a folder", "access is refused")),
    Outcome.INTEGRITY_BROKEN: IntegrityError("job_code 0123 is gone"),
    Outcome.INTERRUPTED: TransientError("S3 cannot answer now"),
}


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_store_that_failed_was_blamed_on_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Outcome
) -> None:
    told: list[dict[str, Any]] = []

    class Records:
        def intent(self, number: int) -> None:
            raise FAILURES[outcome]

        def say(self, number: int, pod: str, words: dict[str, Any]) -> None:
            told.append(words)

    class Store:
        def __init__(self, *given: Any) -> None:
            pass

        def job(self, fingerprint: str) -> Records:
            return Records()

    monkeypatch.setattr(job_pod, "JobStore", Store)
    order = Order("s3://b/jobs", None, None, "f" * 64, 1, 1.0).written()
    code = main({VARIABLE: order, "LLMOPS_WORK": str(tmp_path), "LLMOPS_POD": "uid"})
    assert end_by_code(code, "").outcome is outcome
    assert told[0]["exit_code"] == code and str(FAILURES[outcome]) in told[0]["last_words"]
    assert told[0]["began"] <= told[0]["ended"]


def test_what_a_recipe_left_behind_held_its_gpu_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that outlives the program which started it holds the program's output open."""
    monkeypatch.setattr(job_pod, "LAST_OUTPUT_SECONDS", 0.2)
    MemoryS3(tmp_path.name)
    store = JobStore(MemoryPlace("f", "f", "s3://bucket/jobs", tmp_path.name), tmp_path / "cache")
    (tmp_path / "code").mkdir()
    leaves = ["sh", "-c", f"sleep 20 & echo $! > {tmp_path}/pid; echo last words; exit 65"]
    with Relay(store, store.job("f" * 64), 1, "pod", tmp_path / "messages", 0.05) as relay:
        code = job_pod._ran(leaves, {"PATH": os.environ["PATH"]}, tmp_path, relay)
    left = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{left}/stat").read_text().split()[2] != "Z", "it was waited for"
    os.kill(left, signal.SIGKILL)
    assert code == 65 and relay.last_words == "last words\n"
    assert store.job("f" * 64).log(1, "pod", 1) == b"last words\n"
