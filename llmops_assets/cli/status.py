"""`llmops status`: what serves where, and what holds each model up."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from llmops_assets.cli.options import as_json, platform, print_paragraph, print_table, show
from llmops_assets.cli.under_way import UnderWay, releases_under_way
from llmops_assets.operations.overview import no_such, overview
from llmops_assets.operations.watching import RepositoryStatus, repositories
from llmops_core.status import ModelStatus

SHORT = 8  # digits that fit into 80 columns; --json has them all


@click.command("status")
@click.argument("models", nargs=-1)
@as_json
def command(models: tuple[str, ...], as_json: bool) -> None:
    """Show every model (or MODELS): what serves in each environment, what is being released, and what holds it up."""
    doors = platform()
    every = overview(doors)
    if unknown := set(models) - {status.model for status in every}:
        raise no_such(unknown, [status.model for status in every], "MODELS")
    found = [status for status in every if not models or status.model in models]
    watched = repositories(doors)
    releases = releases_under_way(doors.home.dagster_url)
    asked = None if releases is None else [one for one in releases if not models or one.model in models]
    document = {
        "models": [status.as_dict() for status in found],
        "repositories": [one.as_dict() for one in watched],
        "under_way": None if asked is None else [asdict(one) for one in asked],
    }
    show(document, as_json, lambda: _print(found, watched, asked))


def _print(
    found: list[ModelStatus],
    watched: Sequence[RepositoryStatus] = (),
    under_way: Sequence[UnderWay] | None = (),
) -> None:
    served = [(status.model, name, one) for status in found for name, one in sorted(status.environments.items())]
    rows = [
        (model, name, one.version, one.revision[:SHORT], one.weights_digest[:SHORT], one.state)
        for model, name, one in served
    ]
    idle = [(status.model, "-", "-", "-", "-", _idle(status)) for status in found if not status.environments]
    print_table("Models", ("model", "environment", "version", "revision", "weights", "state"), [*rows, *idle])
    for model, name, one in served:
        click.echo(f"{model} in {name}: {one.url}")
        if one.trouble:
            print_paragraph(f"{model} does not answer in {name}: {one.trouble}", "red")
    _print_under_way(under_way)
    for status in found:
        if status.canary:
            print_paragraph(f"Canary of {status.model}: {status.canary}", "cyan")
        if status.retired:
            print_paragraph(status.told_of_retirement, "yellow")
        for blocked in status.blocked:
            print_paragraph(f"{status.model} is held up at {blocked.stage}: {blocked.reason}", "yellow")
    for one in watched:
        if one.why:
            print_paragraph(f"Repository {one.why}", "red")
        for model, why in one.refused.items():
            print_paragraph(f"{model} of {one.name} is refused: {why}", "yellow")


def _print_under_way(releases: Sequence[UnderWay] | None) -> None:
    if releases is None:
        return print_paragraph("Dagster does not answer, so whether a release is under way is not known.")
    for one in releases:
        print_paragraph(one.told, "cyan")


def _idle(status: ModelStatus) -> str:
    return "retired" if status.retired else "serves nowhere"
