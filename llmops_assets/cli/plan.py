"""`llmops plan`: what a change, or a release of a revision, would run and why, and what it would use again."""

from collections.abc import Sequence
from itertools import groupby

import click

from llmops_assets.cli.options import as_json, platform, print_paragraph, print_table, show
from llmops_assets.operations.planning import plan_between, plan_release
from llmops_core.change_plan import Planned, as_markdown, something_runs

SOMETHING_TO_RUN = 10
HEADER = ("model", "asset", "action", "reason")


@click.command("plan")
@click.argument("revisions", metavar="[BASE..HEAD | REVISION]", default="HEAD")
@click.option("--markdown", is_flag=True, help="Print a table for a pull request.")
@as_json
@click.pass_context
def command(ctx: click.Context, revisions: str, markdown: bool, as_json: bool) -> None:
    """Show for every model and asset whether it would run, and why.

    BASE..HEAD compares two commits: what does the change cause? Nothing is checked out and no data is read. With one
    REVISION (default: HEAD): what would a release run, given all that exists here?

    Exit 0: nothing to run. Exit 10: something. Exit 1: the commit is invalid.
    """
    if markdown and as_json:
        raise click.UsageError("choose one of --markdown and --json")
    if "..." in revisions:
        raise click.UsageError("write BASE..HEAD with two dots; `git merge-base` tells where branches part")
    doors = platform()
    base, dots, head = revisions.partition("..")
    found = doors.source.resolve((head or "HEAD") if dots else revisions)
    if dots:
        known = doors.source.resolve(base or "HEAD")
        title, rows = f"Plan for {known[:12]}..{found[:12]}", plan_between(doors, known, found)
    else:
        title, rows = f"Plan for {found[:12]}", plan_release(doors, found)
    if markdown:
        click.echo(as_markdown(title, rows), nl=False)
    else:
        show([row.as_dict() for row in rows], as_json, lambda: _print(title, rows))
    ctx.exit(SOMETHING_TO_RUN if something_runs(rows) else 0)


def _print(title: str, rows: Sequence[Planned]) -> None:
    """A model with one thing to say of all its assets takes one sentence; the others a line for each asset."""
    mixed: list[list[str]] = []
    sentences: list[str] = []
    for model, group in groupby(rows, lambda row: row.model):
        listed = list(group)
        if len({(row.action, row.reason) for row in listed}) == 1:
            sentences.append(f"{model}: {listed[0].action} all: {listed[0].reason}")
        else:
            mixed += [[row.model, row.asset, row.action, row.reason] for row in listed]
    if mixed:
        print_table(title, HEADER, mixed)
    for sentence in sentences:
        print_paragraph(sentence)
