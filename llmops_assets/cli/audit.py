"""`llmops audit`: is what serves what was proven, approved and committed?"""

import click

from llmops_assets.cli.options import as_json, platform, print_table, show
from llmops_assets.operations.audit import audit
from llmops_assets.operations.overview import known_models, no_such
from llmops_core.lineage import EXIT_CODES, Link, first_not_verified, verdict_of


@click.command("audit")
@click.argument("model")
@as_json
@click.pass_context
def command(ctx: click.Context, model: str, as_json: bool) -> None:
    """Walk from MODEL's production endpoint back to commit and data, and hash every artefact on the way.

    Exit 0: verified. Exit 1: broken; the first broken link is named. Exit 2: incomplete, something did not answer.
    """
    doors = platform()
    links = audit(doors, model)
    verdict = verdict_of(links)
    if verdict == "incomplete" and model not in (known := known_models(doors)):
        error = no_such([model], known, "MODEL")
        error.exit_code = EXIT_CODES[verdict]
        raise error
    document = {"model": model, "verdict": verdict, "links": [link.as_dict() for link in links]}
    show(document, as_json, lambda: print_audit(model, links))
    ctx.exit(EXIT_CODES[verdict])


def print_audit(model: str, links: list[Link]) -> None:
    rows = [(link.name, link.verdict, link.detail) for link in links]
    print_table(f"Audit of {model}: {verdict_of(links)}", ("link", "verdict", "seen"), rows)
    first = first_not_verified(links)
    if first is not None:
        click.secho(f"The first link that is {first.verdict}: {first.name}: {first.detail}", fg="red", err=True)
