"""The program in a pod: how it starts the recipe that it was sent, and what it says of its own failures."""

from pathlib import Path
from typing import Any

import pytest

from llmops_core.errors import InputError, IntegrityError, LlmopsError, Problem, TransientError
from llmops_core.job_outcomes import Outcome, end_by_code
from resources import job_pod
from resources.job_pod import VARIABLE, Order, _launcher, main


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
