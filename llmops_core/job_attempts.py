"""What earlier attempts of a job say of the next: how much memory it gets."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmops_core.job_outcomes import Outcome


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
