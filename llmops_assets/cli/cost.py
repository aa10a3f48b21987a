"""`llmops cost`: what the jobs cost, by version, month or stage, and what those cost so far that run now."""

from typing import Any

import click

from llmops_assets.billing import this_month
from llmops_assets.cli.options import as_json, platform, print_table, show
from llmops_core.cost import Bill, Grouping, Line, bill, not_billed, running_in, spent_in
from llmops_core.errors import LlmopsError
from resources.wiring import Platform

SECONDS_PER_HOUR = 3600


@click.command("cost")
@click.argument("model", required=False)
@click.option("--by", type=click.Choice(["version", "month", "stage"]), default="version", show_default=True)
@as_json
def command(model: str | None, by: Grouping, as_json: bool) -> None:
    """Show what training cost: GPU-hours times the prices in config/, of MODEL or of all models.

    `wasted` is the part that attempts without a result took. Version `-`: no registered version was made of it. Jobs
    that run now are in the month's sum and in no line.
    """
    doors = platform()
    running, unknown = _running(doors)
    facts = doors.ledger.facts()
    running = not_billed(running, facts)
    lines = [line for line in bill(facts, by) if model in (None, line.model)]
    month = this_month()
    budget = doors.settings.budget.per_month if doors.settings.budget else None
    now = {"jobs": len(running), "cost": round(running_in(running, month), 6), "unknown": unknown}
    sums = {"month": month, "spent": round(spent_in(facts, month), 6), "budget": budget, "running": now}
    document = {"lines": [line.as_dict() for line in lines], "this_month": sums}
    show(document, as_json, lambda: _print(lines, by, sums))


def _running(doors: Platform) -> tuple[list[Bill], str]:
    """(what the jobs of all models cost so far that run now, why that is not known)"""
    try:
        return doors.jobs.running(), ""
    except LlmopsError as error:
        return [], str(error)


def _print(lines: list[Line], by: str, sums: dict[str, Any]) -> None:
    if lines:
        header = ("model", by, "attempts", "GPU hours", "cost", "wasted")
        print_table("Cost of jobs", header, [_row(line) for line in lines])
    else:
        click.echo("No job has cost anything yet: only jobs on GPUs are priced.")
    budget, now = sums["budget"], sums["running"]
    told = f"{sums['month']}: {sums['spent']:.2f} spent"
    told += f", {now['cost']:.2f} more by {now['jobs']} jobs that run now" if now["jobs"] else ""
    click.echo(told + (f", of a budget of {budget:.2f}" if budget is not None else ""))
    if now["unknown"]:
        click.echo(f"Without the jobs that run now: {now['unknown']}")


def _row(line: Line) -> tuple[object, ...]:
    hours = f"{line.gpu_seconds / SECONDS_PER_HOUR:.2f}"
    return line.model, line.period, line.attempts, hours, f"{line.cost:.2f}", f"{line.wasted:.2f}"
