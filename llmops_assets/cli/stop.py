"""`llmops stop`: end the platform on this machine; its state stays."""

import click

from llmops_assets.cli.options import as_json, home, show
from resources.host.processes import SupervisorProcesses


@click.command("stop")
@as_json
def command(as_json: bool) -> None:
    """End every program of this platform and wait until none is left. State is kept; `llmops serve` brings it back."""
    SupervisorProcesses(home().root).stop()  # whatever the settings say by now: they may be broken
    show({"stopped": True}, as_json, lambda: click.echo("The platform is down; its state is kept."))
