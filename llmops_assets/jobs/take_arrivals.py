"""Makes a new version of a dataset from files that arrived: a commit, and no asset, for what is released is the commit.

A run that refused a file fails when everything else is done, so that somebody looks; it is not tried again, because the
refusal is recorded.
"""

from dagster import Config, Failure, OpExecutionContext, in_process_executor, job, op

from llmops_assets.operations.arrivals import Outcome, take
from llmops_assets.resource import PlatformResource
from llmops_core.errors import InputError, LlmopsError, Problem


class Batch(Config):
    """Files of a watched place, {name: version}: exactly these versions are taken."""

    place: str
    files: dict[str, str]


@op
def take_files(context: OpExecutionContext, config: Batch, platform: PlatformResource) -> None:
    """Validates the files, commits their new rows to a branch, and says what was refused and why."""
    doors = platform.open()
    watched = {place.name: place for place in doors.settings.arrivals}
    try:
        if config.place not in watched:
            names = ", ".join(watched) or "none"
            raise InputError(Problem("config", "arrivals", config.place, f"one of: {names}", "it is watched no more"))
        outcome = take(doors, watched[config.place], config.files, context.run.run_id)
    except LlmopsError as error:
        raise Failure(description=str(error), allow_retries=False) from error
    said = "\n".join(lines_of(outcome))
    context.log.info(said)
    context.add_output_metadata({"rows": outcome.rows, "commit": outcome.revision, "what": said})
    if outcome.refused:
        raise Failure(description=said, allow_retries=False)


@job(executor_def=in_process_executor, description="Files of a watched place become a new version of a dataset.")
def take_arrivals() -> None:
    take_files()


def lines_of(outcome: Outcome) -> list[str]:
    """What became of each file, for people."""
    lines = [f"{file.name}: {file.new} new of {file.rows} rows" for file in outcome.taken if file.rows]
    lines += [f"{file.name}: the same bytes were taken before" for file in outcome.taken if not file.rows]
    lines += [f"{name}: changed or gone since it was seen; it is looked at again" for name in outcome.changed]
    if outcome.revision:
        lines.append(f"{outcome.rows} new rows in commit {outcome.revision[:12]}; {outcome.passed_on}")
    elif outcome.passed_on:
        lines.append(outcome.passed_on)
    for file in outcome.refused:
        lines += [f"refused, it stays where it is: {problem}" for problem in file.problems]
    return lines or ["nothing was left to take"]
