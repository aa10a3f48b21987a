"""`llmops release`: one model at one revision to production, through every gate."""

from dataclasses import asdict

import click

from llmops_assets.cli.following import Outcome, left_out, release_model, resolve
from llmops_assets.cli.options import as_json, platform, show
from llmops_assets.repositories import doors_of


@click.command("release")
@click.argument("model")
@click.option("--revision", help="Commit, branch or tag; default: HEAD.")
@as_json
@click.pass_context
def command(ctx: click.Context, model: str, revision: str | None, as_json: bool) -> None:
    """Release MODEL: data, training, evaluation, registration, staging, approval, canary, production.

    What exists for the same inputs is used again. Exit 0: production serves this revision's version. Exit 1: it does
    not, and the reason is printed.
    """
    doors = doors_of(platform(), model)
    say = (lambda line: None) if as_json else (lambda line: click.echo(line))
    found = resolve(doors, model, revision)
    if told := left_out(doors, found):
        click.secho(told, fg="yellow", err=True)
    outcome = release_model(doors, model, found, say)
    show(asdict(outcome), as_json, lambda: print_outcome(outcome))
    ctx.exit(0 if outcome.reached else 1)


def print_outcome(outcome: Outcome) -> None:
    click.secho(outcome.told, fg="green" if outcome.reached else "red", err=not outcome.reached)
