"""`llmops feedback`: what people said of a model's answers, recorded, and curated into rows to learn from."""

import json
from pathlib import Path
from typing import Any

import click

from llmops_assets.cli.options import as_json, platform, print_paragraph, print_table, show
from llmops_assets.operations.feedback import Published, Recorded, curate_ratings, record_ratings
from llmops_core.ratings import FIELDS, HIGHEST, LIMIT_BYTES, LOWEST, Rating, parse_ratings

COMMAND_LINE = "command line"


@click.command("feedback")
@click.argument("model")
@click.option("--question", help="What the model was asked.")
@click.option("--answer", help="What it answered.")
@click.option("--rating", type=click.IntRange(LOWEST, HIGHEST), help="1 (wrong) to 5 (right).")
@click.option("--correction", help="What it should have answered.")
@click.option("--version", help="The answer's header x-llmops-version; with --digest.")
@click.option("--digest", help="The answer's header x-llmops-weights-digest; with --version.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='Many ratings instead: JSON Lines of {"question", "answer", "rating"} and the other options\' names.',
)
@as_json
def command(model: str, file: Path | None, as_json: bool, **given: Any) -> None:
    """Record ratings of MODEL's answers; without any, curate all that were recorded and say where the rows are.

    A rating of 1 or 2 with a correction becomes a row to learn from, so does an answer rated 4 or 5, unless people
    disagree, an evaluation asks the question, or it holds personal data. Every rating is counted, with the reason.
    Without --version and --digest the version that serves in production now is taken for the one that answered.
    """
    fields = {name: given[name] for name in FIELDS if given[name] is not None}
    if file is not None and fields:
        raise click.UsageError(f"--file stands alone; the file's lines have the fields {', '.join(FIELDS)}")
    if file is None and not fields:
        published = curate_ratings(platform(), model)
        return show(published.as_dict(), as_json, lambda: _print_curated(model, published))
    if file is None and (missing := [f"--{name}" for name in FIELDS[:3] if name not in fields]):
        raise click.UsageError(f"missing: {', '.join(missing)}")
    source = COMMAND_LINE if file is None else str(file)
    ratings = _read(file) if file is not None else parse_ratings(source, json.dumps(fields).encode())
    recorded = record_ratings(platform(), model, ratings, source)
    return show(recorded.as_dict(), as_json, lambda: _print_recorded(recorded))


def _read(file: Path) -> tuple[Rating, ...]:
    with file.open("rb") as stream:
        return parse_ratings(str(file), stream.read(LIMIT_BYTES + 1))


def _print_recorded(recorded: Recorded) -> None:
    before = "was recorded before" if recorded.repeated else "is recorded"
    print_paragraph(f"{_counted(recorded.ratings)} of {recorded.model} {before}: {recorded.file}", "green")
    for who in recorded.answered_by:
        why = "assumed: it serves in production now" if who.assumed else "as the answer's headers said"
        print_paragraph(f"{_counted(who.ratings)} of version {who.version}, weights {who.digest[:12]} ({why})")
    print_paragraph(f"Next: `llmops feedback {recorded.model}` curates all ratings into rows to learn from.")


def _print_curated(model: str, published: Published) -> None:
    curated = published.curated
    header = ("version", "weights", "ratings", "mean", "low", "high", "version assumed")
    rows = [(v.version, v.digest[:12], v.ratings, f"{v.mean:.2f}", v.low, v.high, v.assumed) for v in curated.versions]
    print_table(f"Ratings of {model}", header, rows)
    counts = [(outcome, count, reason) for (outcome, reason), count in curated.counts.items()]
    print_table("What became of them", ("outcome", "ratings", "reason"), counts)
    print_paragraph(f"{published.finding.verdict.label}: {published.finding.reason}")
    print_paragraph(f"Next: {published.next_step}.")


def _counted(ratings: int) -> str:
    return f"{ratings} rating{'' if ratings == 1 else 's'}"
