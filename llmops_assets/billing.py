"""Writing down what jobs cost, once for each attempt, whoever finds out; and looking after the month's budget."""

from datetime import UTC, datetime

from llmops_core.cost import SPENT, Bill, over_budget, running_in
from llmops_core.errors import GateRefused
from resources.wiring import Platform


def write_down(platform: Platform, bill: Bill) -> None:
    asked = bill.asked
    platform.ledger.append(
        SPENT,
        model=asked.model,
        subject=asked.stage,
        fingerprint=asked.fingerprint,
        body=bill.spent.as_body(),
        once=bill.spent.key,
    )


def billed_at(platform: Platform) -> dict[str, float]:
    """{attempt: when its newest bill was written, in seconds since 1970}. An attempt that began later and has the same
    name is another one."""
    facts = platform.ledger.facts()
    return {fact.body["job"]: datetime.fromisoformat(fact.at).timestamp() for fact in facts if fact.kind == SPENT}


def refuse_over_budget(platform: Platform) -> None:
    """Raises GateRefused when what is spent this month, and what jobs that run now have cost in it, is all there is."""
    budget = platform.settings.budget
    if budget is None:
        return
    month = this_month()
    running = running_in(platform.jobs.running(), month)
    why = over_budget(platform.ledger.facts(), month, budget.per_month, running)
    if why:
        raise GateRefused("budget", why)


def this_month() -> str:
    return f"{datetime.now(UTC):%Y-%m}"
