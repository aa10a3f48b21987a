"""Writing down what jobs cost, once for each attempt, whoever finds out; and looking after the month's budget."""

from datetime import UTC, datetime

from llmops_core.cost import SPENT, Bill, not_billed, over_budget, running_in
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
    runs = platform.jobs.running()  # before the facts, so that what ends between the two is counted
    facts = platform.ledger.facts()
    why = over_budget(facts, month, budget.per_month, running_in(not_billed(runs, facts), month))
    if why:
        raise GateRefused("budget", why)


def this_month() -> str:
    return f"{datetime.now(UTC):%Y-%m}"
