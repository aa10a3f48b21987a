"""What `llmops cost` says of jobs that run now: their cost, or that it does not know it."""

from collections.abc import Callable

import pytest

from llmops_core.cost import RUNNING, Asked, Bill, Spent
from llmops_core.errors import EnvironmentLacks
from resources.jobs.jobs import LocalJobs
from tests.cli.conftest import Ended


def test_jobs_that_run_were_left_out_in_silence(llmops: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Bill(Asked("tiny", "weights", "f"), Spent("job", 1, RUNNING, 3600, 2, "a100", 3.0, {}))
    month = llmops("cost", "--json").json["this_month"]["month"]
    runs.spent.months[month] = 7200.0  # type: ignore[index]
    monkeypatch.setattr(LocalJobs, "running", lambda self: [runs])
    assert llmops("cost", "--json").json["this_month"]["running"] == {"jobs": 1, "cost": 6.0, "unknown": ""}
    assert f"{month}: 0.00 spent, 6.00 more by 1 jobs that run now" in llmops("cost", "--by", "stage").output

    def unknown(self: LocalJobs) -> list[Bill]:
        raise EnvironmentLacks("no cluster is known: set KUBECONFIG")

    monkeypatch.setattr(LocalJobs, "running", unknown)
    assert "Without the jobs that run now: no cluster is known: set KUBECONFIG" in llmops("cost").output
