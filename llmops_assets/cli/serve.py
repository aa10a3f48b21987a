"""`llmops serve`: bring the platform up on this machine; it goes on in the background."""

import time

import click

from llmops_assets.cli.options import as_json, platform, show
from resources.host.platform_start import parts, start


@click.command("serve")
@as_json
def command(as_json: bool) -> None:
    """Start Dagster (UI and daemon), MLflow, the gateway and every deployed model, and wait until they answer.

    Does nothing for what already runs. End it with `llmops stop`.
    """
    doors = platform()
    begun = time.monotonic()
    for line in start(doors):
        click.echo(line, err=as_json)
    urls = {part.name: part.url for part in parts(doors)}
    document = {"urls": urls, "seconds": round(time.monotonic() - begun, 1)}
    show(document, as_json, lambda: click.secho(f"The platform is up after {document['seconds']} s.", fg="green"))
