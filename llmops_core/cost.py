"""What training costs: GPU-seconds times the price of the pool they ran in, as facts, and folds over them.

Every attempt of a job is a `spent` fact, also one that failed or was preempted: it was paid for all the same. A version
costs what was spent on its weights, on the base made for it and on its evaluation; what versions share counts for the
first. An attempt that ran over the end of a month is split between the two. An attempt whose end nobody saw is no
attempt for nothing: its seconds count until it was seen last.

What runs now has no fact yet. It is `Spent` too, with the outcome RUNNING, and is added where money is looked after.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from llmops_core.facts import Fact, Kind

SPENT: Kind = "spent"
PAID_STAGES = ("base_weights", "weights", "evaluation")
SECONDS_PER_HOUR = 3600
NOT_REGISTERED = "-"
RUNNING = "running"
Grouping = Literal["version", "month", "stage"]


@dataclass(frozen=True)
class Spent:
    """One attempt of one job. `gpu_type` is empty for a job without GPU, which costs nothing here. `months` has the
    GPU-seconds of each month, added up over pods that need not have run equally long; without it all GPUs were held for
    all `seconds`, which are from first to last. `job` names the work and the attempt; `attempt_id` tells it from one of
    the same name, of work that was done again when nothing was known of it any more. Older records have none.
    """

    job: str
    attempt: int
    outcome: str
    seconds: float
    gpu_count: int = 0
    gpu_type: str = ""
    price_per_hour: float = 0.0
    months: Mapping[str, float] = field(default_factory=dict[str, float])
    attempt_id: str = ""

    @property
    def key(self) -> str:
        """Of the one fact that there may be of this attempt, whoever writes it and how often."""
        return ":".join(["spent", self.job, *([self.attempt_id] if self.attempt_id else [])])

    @property
    def gpu_seconds(self) -> float:
        return sum(self.months.values()) if self.months else self.seconds * self.gpu_count

    @property
    def cost(self) -> float:
        return self.gpu_seconds / SECONDS_PER_HOUR * self.price_per_hour

    def as_body(self) -> dict[str, Any]:
        """For the ledger. The cost is written too, because prices change and what was paid does not."""
        return {**asdict(self), "gpu_seconds": round(self.gpu_seconds, 3), "cost": round(self.cost, 6)}


@dataclass(frozen=True)
class Asked:
    """Who asks for a job, so that a cluster knows the same work again; `fingerprint` is the stage's."""

    model: str
    stage: str
    fingerprint: str


@dataclass(frozen=True)
class Bill:
    """What an attempt used, and for whom."""

    asked: Asked
    spent: Spent


@dataclass(frozen=True)
class Line:
    """One row of a bill. `period` is a month (2026-11), a version of the model or a stage; `wasted` is the part of
    `cost` that attempts without a result took; `attempts` counts those that ended in it."""

    model: str
    period: str
    attempts: int
    gpu_seconds: float
    cost: float
    wasted: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bill(facts: Sequence[Fact], by: Grouping) -> list[Line]:
    """All that was spent, by model and month, version or stage; the last month or version last."""
    versions = _versions(facts)
    groups: dict[tuple[str, str], list[_Part]] = {}
    for fact in _spent(facts):
        version = versions.get((fact.model, fact.fingerprint), NOT_REGISTERED)
        for part in _parts(fact):
            period = {"month": part.month, "version": version, "stage": fact.subject}[by]
            groups.setdefault((fact.model, period), []).append(part)
    lines = [_line(model, period, spent) for (model, period), spent in groups.items()]
    return sorted(lines, key=lambda line: (line.model, _in_order(line.period)))


def spent_in(facts: Iterable[Fact], month: str) -> float:
    """What all models together cost in a month, such as 2026-11."""
    return sum(part.cost for fact in _spent(facts) for part in _parts(fact) if part.month == month)


def not_billed(bills: Iterable[Bill], facts: Iterable[Fact]) -> list[Bill]:
    """Of jobs that run now, those that have no fact: one that was ended holds its GPUs a little longer."""
    known = {(fact.body["job"], str(fact.body.get("attempt_id", ""))) for fact in _spent(facts)}
    return [each for each in bills if (each.spent.job, each.spent.attempt_id) not in known]


def running_in(bills: Iterable[Bill], month: str) -> float:
    """What the jobs that run now have cost in a month so far."""
    prices = ((bill.spent.months.get(month, 0.0), bill.spent.price_per_hour) for bill in bills)
    return sum(seconds / SECONDS_PER_HOUR * price for seconds, price in prices)


def over_budget(facts: Iterable[Fact], month: str, per_month: float, running: float = 0.0) -> str:
    """Why no job may start any more this month; empty while there is money left. `running` is what the jobs that run
    now have cost in it so far."""
    spent = spent_in(facts, month) + running
    if spent < per_month:
        return ""
    told = f"{spent:.2f} of the budget of {per_month:.2f} for {month} are spent"
    told += f" ({running:.2f} of it by jobs that run now)" if running else ""
    return f"{told}; raise budget.per_month, or wait"


@dataclass(frozen=True)
class _Part:
    """An attempt's part in one month; `ends` in the month in which it ended."""

    month: str
    gpu_seconds: float
    cost: float
    wasted: bool
    ends: bool


def _parts(fact: Fact) -> list[_Part]:
    """A fact that says nothing of months is of the one in which it was written."""
    body = fact.body
    whole, wasted = float(body["gpu_seconds"]), body["outcome"] != "succeeded"
    months: Mapping[str, float] = body.get("months") or {fact.at[:7]: whole}
    shares = {month: seconds / whole if whole else 0.0 for month, seconds in months.items()}
    last = max(months)
    return [
        _Part(month, months[month], float(body["cost"]) * share, wasted, month == last)
        for month, share in shares.items()
    ]


def _spent(facts: Iterable[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.kind == SPENT]


def _line(model: str, period: str, parts: Sequence[_Part]) -> Line:
    return Line(
        model,
        period,
        attempts=sum(part.ends for part in parts),
        gpu_seconds=round(sum(part.gpu_seconds for part in parts), 3),
        cost=round(sum(part.cost for part in parts), 6),
        wasted=round(sum(part.cost for part in parts if part.wasted), 6),
    )


def _versions(facts: Sequence[Fact]) -> Mapping[tuple[str, str], str]:
    """{(model, fingerprint of base weights, weights or evaluation): the first version that rests on what they made}"""
    made: dict[tuple[str, str], list[str]] = {}
    for fact in facts:
        if fact.kind == "produced" and fact.subject in PAID_STAGES:
            made.setdefault((fact.model, fact.body["digest"]), []).append(fact.fingerprint)
    found: dict[tuple[str, str], str] = {}
    for fact in facts:
        if fact.kind != "produced" or fact.subject != "registered_version":
            continue
        version, origin = str(fact.body["version"]), fact.body["facts"]
        for digest in (origin["weights_digest"], origin["base_digest"], origin["evaluation_digest"]):
            for fingerprint in made.get((fact.model, digest), ()):
                found.setdefault((fact.model, fingerprint), version)
    return found


def _in_order(period: str) -> tuple[int, str]:
    return (int(period) if period.isdigit() else 0, period)
