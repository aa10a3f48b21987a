"""`llmops export`: the state of this platform as one file."""

from dataclasses import asdict
from pathlib import Path

import click

from llmops_assets.cli.options import as_json, platform, show
from llmops_assets.operations.moving import export_state


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@as_json
def command(file: Path, as_json: bool) -> None:
    """Write facts, artefacts, registry and ratings of this platform to FILE, for `llmops import` elsewhere.

    Private keys stay here. The file holds what people asked and rated: keep it as secret as the state folder.
    """
    done = export_state(platform(), file.absolute())
    what = f"{done.facts} facts, {done.artifacts} artefacts and {done.submissions} submissions of ratings"
    show(asdict(done), as_json, lambda: click.secho(f"{done.file} holds {what}, and the registry.", fg="green"))
