"""`llmops release`: one model at one revision to production, through every gate."""

from dataclasses import asdict

import click

from llmops_assets.cli.following import Outcome, release_model, resolve
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
    outcome = release_model(doors, model, resolve(doors, model, revision), say)
    show(asdict(outcome), as_json, lambda: print_outcome(outcome))
    ctx.exit(0 if outcome.reached else 1)


def print_outcome(outcome: Outcome) -> None:
    if outcome.reached:
        click.secho(f"{outcome.model} {outcome.revision[:12]} serves in production.", fg="green")
    else:
        click.secho(
            f"{outcome.model} {outcome.revision[:12]} is not in production: {outcome.reason}", fg="red", err=True
        )
