"""`llmops status`: what serves where, and what holds each model up."""

import click

from llmops_assets.cli.options import as_json, platform, print_table, show
from llmops_assets.operations.overview import overview
from llmops_core.status import ModelStatus


@click.command("status")
@click.argument("models", nargs=-1)
@as_json
def command(models: tuple[str, ...], as_json: bool) -> None:
    """Show every model (or MODELS): what serves in each environment, and what holds it up."""
    found = [status for status in overview(platform()) if not models or status.model in models]
    show({"models": [status.as_dict() for status in found]}, as_json, lambda: _print(found))


def _print(found: list[ModelStatus]) -> None:
    rows = [
        (status.model, name, one.version, one.revision[:12], one.weights_digest[:12], one.state, one.url)
        for status in found
        for name, one in sorted(status.environments.items())
    ]
    idle = [(status.model, "-", "-", "-", "-", "serves nowhere", "-") for status in found if not status.environments]
    header = ("model", "environment", "version", "revision", "weights", "state", "url")
    print_table("Models", header, [*rows, *idle])
    for status in found:
        for blocked in status.blocked:
            click.secho(f"{status.model} is held up at {blocked.stage}: {blocked.reason}", fg="yellow")
