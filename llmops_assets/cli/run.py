"""`llmops run`: the main job as one command, from the checkout to an audited model in production."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from llmops_assets.cli.audit import print_audit
from llmops_assets.cli.following import Outcome, left_out, release_model, resolve
from llmops_assets.cli.options import as_json, platform, print_table, show
from llmops_assets.operations.audit import audit
from llmops_assets.operations.summary import Summary, summarise
from llmops_core.errors import EnvironmentLacks
from llmops_core.lineage import Link, verdict_of
from resources.host.platform_start import parts, start
from resources.wiring import Platform

SAMPLE = "atlas-qa"


class Clock:
    """Says every line with the time since the start, and remembers how long each phase took."""

    def __init__(self, quiet: bool) -> None:
        self._begun = time.monotonic()
        self._quiet = quiet
        self.phases: dict[str, float] = {}

    def say(self, line: str) -> None:
        click.echo(f"[{time.monotonic() - self._begun:6.1f} s] {line}", err=self._quiet)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        self.say(f"{name} …")
        yield
        self.phases[name] = time.monotonic() - begun


@click.command("run")
@click.argument("model", default=SAMPLE)
@as_json
@click.pass_context
def command(ctx: click.Context, model: str, as_json: bool) -> None:
    """Build the data, start the platform, release MODEL from HEAD to production and audit it.

    The platform then goes on in the background; `llmops stop` ends it. Exit 0: in production and verified. Exit 1:
    not, and why.
    """
    doors = platform()
    clock = Clock(quiet=as_json)
    revision = resolve(doors, model, None)
    with clock.phase("data"):
        build_data(doors, clock)
    if told := left_out(doors, revision):  # after `dvc repro`, which may have written dvc.lock
        clock.say(told)
    with clock.phase("platform"):
        for line in start(doors):
            clock.say(line)
    with clock.phase("release"):
        outcome = release_model(doors, model, revision, clock.say)
    links: list[Link] = []
    if outcome.reached:
        with clock.phase("audit"):
            links = audit(doors, model)
    summary = summarise(doors, model, outcome.reached, links)
    document = {**summary.as_dict(), "reason": outcome.reason, "phases": clock.phases, "steps": outcome.step_seconds}
    show(document, as_json, lambda: _print(summary, outcome, clock, links, doors))
    ctx.exit(0 if outcome.reached and verdict_of(links) == "verified" else 1)


def build_data(doors: Platform, clock: Clock) -> None:
    """`dvc repro`: makes the stages' outputs where they are missing. The lock says what they must be."""
    repository = doors.home.repository
    if not (repository / "dvc.yaml").is_file():
        return
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    process = subprocess.Popen(
        [str(programs / "dvc"), "repro"],
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    for line in process.stdout or ():
        if line.strip():
            lines.append(line.strip())
            clock.say(f"  dvc: {line.strip()}")
    if process.wait() != 0:
        raise EnvironmentLacks("`dvc repro` failed: " + " ".join(lines[-5:]))


def _print(summary: Summary, outcome: Outcome, clock: Clock, links: list[Link], doors: Platform) -> None:
    if links:
        print_audit(summary.model, links)
    steps = {f"  {name}": seconds for name, seconds in outcome.step_seconds.items()}
    rows = [(name, f"{seconds:.1f}") for name, seconds in {**clock.phases, **steps}.items()]
    print_table("Time", ("step", "seconds"), rows)
    print_table("Release", ("what", "value"), summary.rows())
    print_table("Open now", ("page", "address"), [(part.name, part.url) for part in parts(doors)])
    if not outcome.reached:
        click.secho(outcome.told, fg="red", err=True)
