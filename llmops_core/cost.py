"""What training costs: GPU-seconds times the price of the pool they ran in, as facts, and folds over them.

Every attempt of a job is a `spent` fact, also one that failed or was preempted: it was paid for all the same. A version
costs what was spent on its weights and on the base made for it; weights that versions share count for the first.
An attempt whose end nobody saw is no attempt for nothing: its seconds count until it was seen last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llmops_core.facts import Fact, Kind

SPENT: Kind = "spent"
SECONDS_PER_HOUR = 3600
NOT_REGISTERED = "-"
Grouping = Literal["version", "month"]


@dataclass(frozen=True)
class Spent:
    """One attempt of one job. `gpu_type` is empty for a job without GPU, which costs nothing here."""

    job: str
    attempt: int
    outcome: str
    seconds: float
    gpu_count: int = 0
    gpu_type: str = ""
    price_per_hour: float = 0.0

    @property
    def gpu_seconds(self) -> float:
        return self.seconds * self.gpu_count

    @property
    def cost(self) -> float:
        return self.gpu_seconds / SECONDS_PER_HOUR * self.price_per_hour

    def as_body(self) -> dict[str, Any]:
        """For the ledger. The cost is written too, because prices change and what was paid does not."""
        return {**asdict(self), "gpu_seconds": round(self.gpu_seconds, 3), "cost": round(self.cost, 6)}


@dataclass(frozen=True)
class Line:
    """One row of a bill. `period` is a month (2026-11) or a version of the model; `wasted` is the part of `cost` that
    attempts without a result took."""

    model: str
    period: str
    attempts: int
    gpu_seconds: float
    cost: float
    wasted: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bill(facts: Sequence[Fact], by: Grouping) -> list[Line]:
    """All that was spent, by model and month or version; the last month or version last."""
    versions = _versions(facts)
    groups: dict[tuple[str, str], list[Fact]] = {}
    for fact in _spent(facts):
        period = fact.at[:7] if by == "month" else versions.get((fact.model, fact.fingerprint), NOT_REGISTERED)
        groups.setdefault((fact.model, period), []).append(fact)
    lines = [_line(model, period, spent) for (model, period), spent in groups.items()]
    return sorted(lines, key=lambda line: (line.model, _in_order(line.period)))


def spent_in(facts: Iterable[Fact], month: str) -> float:
    """What all models together cost in a month, such as 2026-11."""
    return sum(float(fact.body["cost"]) for fact in _spent(facts) if fact.at.startswith(month))


def over_budget(facts: Iterable[Fact], month: str, per_month: float) -> str:
    """Why no job may start any more this month; empty while there is money left."""
    spent = spent_in(facts, month)
    if spent < per_month:
        return ""
    return f"{spent:.2f} of the budget of {per_month:.2f} for {month} are spent; raise budget.per_month, or wait"


def _spent(facts: Iterable[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.kind == SPENT]


def _line(model: str, period: str, spent: Sequence[Fact]) -> Line:
    bodies = [fact.body for fact in spent]
    return Line(
        model,
        period,
        attempts=len(bodies),
        gpu_seconds=round(sum(body["gpu_seconds"] for body in bodies), 3),
        cost=round(sum(body["cost"] for body in bodies), 6),
        wasted=round(sum(body["cost"] for body in bodies if body["outcome"] != "succeeded"), 6),
    )


def _versions(facts: Sequence[Fact]) -> Mapping[tuple[str, str], str]:
    """{(model, fingerprint of weights or base weights): the first version that was made of them}"""
    made = {(f.model, f.body["digest"]): f for f in facts if f.kind == "produced" and "weights" in f.subject}
    found: dict[tuple[str, str], str] = {}
    for fact in facts:
        if fact.kind != "produced" or fact.subject != "registered_version":
            continue
        version, origin = str(fact.body["version"]), fact.body["facts"]
        for digest in (origin["weights_digest"], origin["base_digest"]):
            if weights := made.get((fact.model, digest)):
                found.setdefault((fact.model, weights.fingerprint), version)
    return found


def _in_order(period: str) -> tuple[int, str]:
    return (int(period) if period.isdigit() else 0, period)
