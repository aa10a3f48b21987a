"""Service level objectives: how much of the error budget is spent, and how fast it burns.

An objective of 0.999 allows one bad event in a thousand; those allowed ones are the budget. What is spent is
bad events / allowed bad events: a measured 0.9995 has spent half of it, not none, as "measured minus objective" would
say. The burn rate is the same quotient over a short window: 1 spends the budget exactly by the end of the objective's
period, 14.4 spends 2 % of a 30-day budget in an hour (Beyer et al. 2018, "The Site Reliability Workbook", chapter 5).

Both count events, summed over all series first, and never divide one ratio by another. Arithmetic is exact (1 - 0.9 is
not quite 0.1 in floating point, which would let a budget that is spent to the last event look overspent).
"""

from dataclasses import dataclass
from fractions import Fraction

from llmops_core.verdict import Finding, Verdict


@dataclass(frozen=True)
class Events:
    """What happened in a window: `bad` of `total` events missed the objective. Raises ValueError if that cannot be."""

    total: int
    bad: int

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.total:
            raise ValueError(f"{self.bad} bad of {self.total} events cannot be")


def burn_rate(events: Events, objective: float) -> float | None:
    """Bad events / allowed bad events in the window; over the objective's whole period, the share of budget spent.

    None without events. Raises ValueError for an objective that is not strictly between 0 and 1.
    """
    if not 0 < objective < 1:
        raise ValueError(f"an objective of {objective} is not strictly between 0 and 1")
    if events.total == 0:
        return None
    allowed = (1 - Fraction(str(objective))) * events.total
    return float(events.bad / allowed)


def judge_error_budget(name: str, events: Events, objective: float) -> Finding:
    """PASSED while no more than the budget is spent, FAILED beyond; no events are an ERROR, never a pass."""
    spent = burn_rate(events, objective)
    if spent is None:
        return Finding(name, Verdict.ERROR, f"no events, so nothing is known about {objective:g}", None, 1.0)
    told = f"{events.bad} bad of {events.total} events spend {100 * spent:.3g} % of the error budget of {objective:g}"
    return Finding(name, Verdict.PASSED if spent <= 1 else Verdict.FAILED, told, spent, 1.0)
