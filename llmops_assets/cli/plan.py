"""`llmops plan`: what a release of a revision would run, and what it would use again."""

from itertools import groupby
from typing import Any

import click

from llmops_assets.cli.options import as_json, platform, print_paragraph, print_table, show
from llmops_assets.release import models_at, open_release
from llmops_core.plan import STAGES
from llmops_core.validation import lacks
from resources.wiring import Platform

SOMETHING_TO_RUN = 10
HEADER = ("model", "asset", "action", "reason")


@click.command("plan")
@click.argument("revision", default="HEAD")
@as_json
@click.pass_context
def command(ctx: click.Context, revision: str, as_json: bool) -> None:
    """Show for every model and asset at REVISION whether it would run, and why.

    Exit 0: nothing to run. Exit 10: something. Exit 1: the revision is invalid.
    """
    doors = platform()
    found = doors.source.resolve(revision)
    rows = [row for model in models_at(doors, found) for row in _plan(doors, model, found)]
    show(rows, as_json, lambda: _print(found, rows))
    ctx.exit(SOMETHING_TO_RUN if any(row["action"] == "run" for row in rows) else 0)


def _print(revision: str, rows: list[dict[str, Any]]) -> None:
    """A model with one thing to say of all its assets takes one sentence; the others a line for each asset."""
    mixed: list[list[str]] = []
    sentences: list[str] = []
    for model, group in groupby(rows, lambda row: row["model"]):
        listed = list(group)
        if len({(row["action"], row["reason"]) for row in listed}) == 1:
            sentences.append(f"{model}: {listed[0]['action']} all: {listed[0]['reason']}")
        else:
            mixed += [[row[name] for name in HEADER] for row in listed]
    if mixed:
        print_table(f"Plan for {revision[:12]}", HEADER, mixed)
    for sentence in sentences:
        print_paragraph(sentence)


def _plan(doors: Platform, model: str, revision: str) -> list[dict[str, Any]]:
    release = open_release(doors, model, revision)
    missing = lacks(release.spec, release.inputs.production)
    evidence = release.evidence()
    rows: list[dict[str, Any]] = []
    for stage in STAGES:
        fact = evidence.get(stage)
        if fact is not None:
            action, reason = "skip", f"same inputs as at {fact.body['revision'][:12]}"
        elif missing:
            action, reason = "skip", f"{doors.settings.name} cannot run it: {'; '.join(missing)}"
        else:
            action, reason = "run", f"nothing exists for {release.fingerprints[stage][:12]}"
        rows.append({"model": model, "asset": stage, "action": action, "reason": reason})
    return rows
