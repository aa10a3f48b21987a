"""`llmops import`: the state of another platform out of one file."""

from dataclasses import asdict
from pathlib import Path

import click

from llmops_assets.cli.options import as_json, platform, show
from llmops_assets.operations.moving import import_state


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@as_json
def command(file: Path, as_json: bool) -> None:
    """Take what `llmops export` wrote to FILE into this platform, which must be empty.

    Every byte is proven first. The same command again finishes one that was killed. `llmops audit` then says of each
    model what it said before, apart from what serves; `llmops release MODEL` makes it serve here.
    """
    done = import_state(platform(), file.absolute())
    what = f"{done.new_facts} new facts (of {done.facts}), {done.artifacts} artefacts, {done.submissions} submissions"
    show(asdict(done), as_json, lambda: click.secho(f"Taken in: {what} of ratings, and the registry.", fg="green"))
