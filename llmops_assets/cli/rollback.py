"""`llmops rollback`: production back to the version before, in a second."""

from dataclasses import asdict

import click

from llmops_assets.cli.options import as_json, platform, show
from llmops_assets.operations.rollback import roll_back


@click.command("rollback")
@click.argument("model")
@click.option("--reason", default="asked for by a person", help="Written into the ledger.")
@as_json
def command(model: str, reason: str, as_json: bool) -> None:
    """Give all production traffic of MODEL to the version that served before, which is kept running; while a canary
    is under way, to the version that serves.

    Exit 0: it serves. Exit 1: there is no such version, and why.
    """
    done = roll_back(platform(), model, reason)
    now = f"is back at version {done.version} ({done.revision[:12]})" if done.version else "serves nothing, as before"
    text = f"{model} {now}; version {done.left_version} has no traffic."
    show(asdict(done), as_json, lambda: click.secho(text, fg="green"))
