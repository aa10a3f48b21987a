"""`llmops cost`: what the jobs cost, by version or by month."""

from datetime import UTC, datetime

import click

from llmops_assets.cli.options import as_json, platform, print_table, show
from llmops_core.cost import Grouping, Line, bill, spent_in

SECONDS_PER_HOUR = 3600


@click.command("cost")
@click.argument("model", required=False)
@click.option("--by", type=click.Choice(["version", "month"]), default="version", show_default=True)
@as_json
def command(model: str | None, by: Grouping, as_json: bool) -> None:
    """Show what training cost: GPU-hours times the prices in config/, of MODEL or of all models.

    `wasted` is the part that attempts without a result took. Version `-`: no registered version was made of it.
    """
    doors = platform()
    facts = doors.ledger.facts()
    lines = [line for line in bill(facts, by) if model in (None, line.model)]
    month = f"{datetime.now(UTC):%Y-%m}"
    budget = doors.settings.budget.per_month if doors.settings.budget else None
    this_month = {"month": month, "spent": round(spent_in(facts, month), 6), "budget": budget}
    document = {"lines": [line.as_dict() for line in lines], "this_month": this_month}
    show(document, as_json, lambda: _print(lines, by, month, float(this_month["spent"] or 0), budget))


def _print(lines: list[Line], by: str, month: str, spent: float, budget: float | None) -> None:
    if lines:
        header = ("model", by, "attempts", "GPU hours", "cost", "wasted")
        print_table("Cost of jobs", header, [_row(line) for line in lines])
    else:
        click.echo("No job has cost anything yet: only jobs on GPUs are priced.")
    click.echo(f"{month}: {spent:.2f} spent" + (f" of a budget of {budget:.2f}" if budget is not None else ""))


def _row(line: Line) -> tuple[object, ...]:
    hours = f"{line.gpu_seconds / SECONDS_PER_HOUR:.2f}"
    return line.model, line.period, line.attempts, hours, f"{line.cost:.2f}", f"{line.wasted:.2f}"
