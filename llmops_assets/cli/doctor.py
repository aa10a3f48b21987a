"""`llmops doctor`: whether an environment has what a release needs, and what to mend."""

import click

from llmops_assets.cli.options import as_json, home, print_paragraph, show
from llmops_assets.operations.doctor import examine, in_environment
from llmops_core.doctor import Diagnosis, Health, is_well

COLOURS = {Health.OK: "green", Health.FAILED: "red", Health.UNKNOWN: "yellow", Health.NOT_NEEDED: "bright_black"}
WIDTH = max(len(each.value) for each in Health)


@click.command("doctor")
@click.option("--environment", help="Another environment of config/ than LLMOPS_ENVIRONMENT names.")
@as_json
@click.pass_context
def command(ctx: click.Context, environment: str | None, as_json: bool) -> None:
    """Examine an environment end to end: settings, repository, stores, databases, registry, cluster, clocks.

    Nothing is changed: buckets are tried with an object that is deleted again, the cluster with dry runs. Exit 0: all
    is well. Exit 1: something failed, or could not be found out.
    """
    found: list[Diagnosis] = []
    for each in examine(in_environment(home(), environment)):
        found.append(each)
        if not as_json:
            _print(each)
    well = is_well(found)
    document = {"well": well, "diagnoses": [each.as_dict() for each in found]}
    show(document, as_json, lambda: _sum_up(found, well))
    ctx.exit(0 if well else 1)


def _print(each: Diagnosis) -> None:
    click.secho(each.verdict.ljust(WIDTH), fg=COLOURS[each.verdict], nl=False)
    click.echo(f"  {each.name}")
    print_paragraph(each.found, indent="    ")
    if each.mend:
        print_paragraph(f"mend: {each.mend}", "yellow", indent="    ")


def _sum_up(found: list[Diagnosis], well: bool) -> None:
    bad = sum(each.verdict in (Health.FAILED, Health.UNKNOWN) for each in found)
    told = "All is well." if well else f"{bad} of {len(found)} need a look."
    click.secho(told, fg="green" if well else "red")
