"""What earlier attempts of a job say of the next: how much memory it gets, and how long one ran."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmops_core.job_outcomes import Outcome, containers_of

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Past:
    """An attempt of the same job that is over, by whichever run."""

    number: int
    outcome: Outcome
    memory_gb: float
    run_id: str


def memory_for_next(past: Sequence[Past], wanted_gb: float, ladder: Sequence[float], run_id: str) -> float | None:
    """The memory of the next attempt: the first size above the largest that was too small.

    None when this run has already seen the largest fail. A new run tries the largest once more, because someone asked.
    """
    sizes = [wanted_gb, *(size for size in ladder if size > wanted_gb)]
    too_small = [each for each in past if each.outcome is Outcome.OUT_OF_MEMORY]
    worst = max((each.memory_gb for each in too_small), default=0.0)
    fitting = [size for size in sizes if size > worst]
    if fitting:
        return fitting[0]
    return None if any(each.run_id == run_id for each in too_small) else sizes[-1]


def ran_seconds(pods: Sequence[Manifest], now: datetime) -> float:
    """How long the pods' containers ran, from the first that started to the last that ended, or until now."""
    spans: list[tuple[datetime, datetime]] = []
    for pod in pods:
        for status in containers_of(pod):
            state: Manifest = status.get("state", {})
            ran: Manifest = state.get("terminated") or state.get("running") or {}
            if ran.get("startedAt"):
                spans.append((_time(ran["startedAt"]), _time(ran["finishedAt"]) if ran.get("finishedAt") else now))
    if not spans:
        return 0.0
    return max(0.0, (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
