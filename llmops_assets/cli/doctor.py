"""`llmops doctor`: whether an environment has what a release needs, and what to mend."""

import click

from llmops_assets.cli.options import as_json, home, print_paragraph, show
from llmops_assets.operations.doctor import examine, in_environment
from llmops_core.doctor import EXIT_CODES, Diagnosis, Health, Verdict, verdict_of

COLOURS = {Health.OK: "green", Health.FAILED: "red", Health.UNKNOWN: "yellow", Health.NOT_NEEDED: "bright_black"}
WIDTH = max(len(each.value) for each in Health)


@click.command("doctor")
@click.option("--environment", help="Another environment of config/ than LLMOPS_ENVIRONMENT names.")
@as_json
@click.pass_context
def command(ctx: click.Context, environment: str | None, as_json: bool) -> None:
    """Examine an environment end to end: settings, repository, approvers, stores, databases, registry, cluster,
    clocks.

    Nothing is changed: buckets are tried with an object that is deleted again, the cluster with dry runs. Exit 0: all
    is well. Exit 1: something failed. Exit 2: nothing failed, but something could not be found out from here.
    """
    found: list[Diagnosis] = []
    for each in examine(in_environment(home(), environment)):
        found.append(each)
        if not as_json:
            _print(each)
    verdict = verdict_of(found)
    document = {"well": verdict == "well", "diagnoses": [each.as_dict() for each in found]}
    show(document, as_json, lambda: _sum_up(found, verdict))
    ctx.exit(EXIT_CODES[verdict])


def _print(each: Diagnosis) -> None:
    click.secho(each.verdict.ljust(WIDTH), fg=COLOURS[each.verdict], nl=False)
    click.echo(f"  {each.name}")
    print_paragraph(each.found, indent="    ")
    if each.mend:
        print_paragraph(f"mend: {each.mend}", "yellow", indent="    ")


def _sum_up(found: list[Diagnosis], verdict: Verdict) -> None:
    failed, unknown = (sum(each.verdict is one for each in found) for one in (Health.FAILED, Health.UNKNOWN))
    told = {
        "well": "All is well.",
        "failed": f"{failed} of {len(found)} failed, {unknown} are unknown.",
        "unknown": f"Nothing failed, but {unknown} of {len(found)} are unknown from here.",
    }
    click.secho(told[verdict], fg={"well": "green", "failed": "red", "unknown": "yellow"}[verdict])
