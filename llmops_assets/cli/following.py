"""A release from the command line: launch it (or join the one that runs), follow it, and say how it ended."""

import time
from dataclasses import dataclass, field

from llmops_assets.cli.dagster_client import FINISHED, DagsterClient
from llmops_assets.cli.telling import Say, Telling
from llmops_assets.deploying import serving_now
from llmops_assets.operations.changes import request
from llmops_assets.operations.overview import why_silent
from llmops_assets.release import Release, head_of, open_release
from llmops_assets.tags import PARTITION_TAG, REVISION_TAG, tags_of
from llmops_core.errors import InputError, Problem, TransientError
from llmops_core.promotion import serves
from llmops_core.status import fold
from llmops_core.validation import lacks
from resources.git.working_tree import not_committed
from resources.wiring import Platform

JOB, BY = "release", "llmops"
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
FILES_TOLD = 8


@dataclass
class Outcome:
    """How a release ended. `reason` says why production does not serve it; empty when it does. `serving_version` is the
    one that goes on serving there instead, if any does."""

    model: str
    revision: str
    reached: bool
    reason: str = ""
    run_id: str = ""
    step_seconds: dict[str, float] = field(default_factory=dict)
    serving_version: str = ""

    @property
    def told(self) -> str:
        """One sentence."""
        if self.reached:
            return f"{self.model} {self.revision[:12]} serves in production."
        what = f"{self.model} {self.revision[:12]} did not reach production: {self.reason}"
        return f"{what} ({f'version {now} goes on serving' if (now := self.serving_version) else 'no version answers'})"


def release_model(platform: Platform, model: str, revision: str, say: Say) -> Outcome:
    """Brings a model at a revision to production, or reports why not. Joins a run of the same revision."""
    release = open_release(platform, model, revision)
    if _reached(release):
        return Outcome(model, revision, reached=True)
    if missing := lacks(release.spec, release.inputs.production):
        reason = f"environment: {release.inputs.production.name} cannot run it: {'; '.join(missing)}"
        return Outcome(model, revision, reached=False, reason=reason, serving_version=_serving_version(release))
    client = DagsterClient(platform.home.dagster_url)
    run_id, joined = _run(client, release)
    say(f"run {run_id}: {platform.home.dagster_url}/runs/{run_id}")
    usual = {fact.subject: fact.body["seconds"] for fact in platform.ledger.facts(model) if fact.kind == "produced"}
    seconds = follow(client, run_id, Telling(say, usual))
    if joined and not _reached(release):  # it began before this command, perhaps with code that was killed since
        say("the run that was under way did not get there; starting another")
        run_id, _ = _run(client, release)
        say(f"run {run_id}: {platform.home.dagster_url}/runs/{run_id}")
        seconds = follow(client, run_id, Telling(say, usual))
    reached = _reached(release)
    if reached:
        return Outcome(model, revision, reached, run_id=run_id, step_seconds=seconds)
    reason = _reason(release, client.run_status(run_id))
    return Outcome(model, revision, reached, reason, run_id, seconds, _serving_version(release))


def resolve(platform: Platform, model: str, revision: str | None) -> str:
    """The full commit id that a person means; the model must exist there. Without a revision it is what is checked out,
    and where nothing is, the head of the watched branch."""
    found = platform.source.resolve(revision or (head_of(platform) if platform.follows else "HEAD"))
    if platform.source.read(found, f"models/{model}/model.yaml") is None:
        path = f"models/{model}/model.yaml"
        raise InputError(Problem(path, "", "no such file", "a model", f"there is no model {model} at {found[:12]}"))
    return found


def left_out(platform: Platform, revision: str) -> str:
    """A sentence about what is edited in the checkout and not committed, where it is what is released; else empty."""
    if platform.follows or revision != platform.source.head():
        return ""
    files = [path if path.isprintable() else ascii(path) for path in not_committed(platform.home.repository)]
    if not files:
        return ""
    more = f" and {len(files) - FILES_TOLD} more" if len(files) > FILES_TOLD else ""
    named = f"{', '.join(files[:FILES_TOLD])}{more}"
    return f"Not part of this release, which is commit {revision[:12]}: uncommitted edits of {named}; commit them first"


def follow(client: DagsterClient, run_id: str, telling: Telling) -> dict[str, float]:
    """Tells the run's log until the run has ended; returns {step: seconds}.

    A webserver that restarts meanwhile is waited for, since the run goes on without it.
    """
    cursor: str | None = None
    unreachable_since: float | None = None
    while True:
        try:
            status = client.run_status(run_id)
            events, cursor = client.events(run_id, cursor)
        except TransientError:
            unreachable_since = unreachable_since or time.monotonic()
            if time.monotonic() - unreachable_since > PATIENCE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        unreachable_since = None
        for event in events:
            telling.event(event)
        if status in FINISHED and not events:
            return telling.step_seconds
        telling.wait()
        time.sleep(POLL_SECONDS)


def _run(client: DagsterClient, release: Release) -> tuple[str, bool]:
    """The run of this revision that is under way (True), or a new one (False)."""
    tags = {PARTITION_TAG: release.model, REVISION_TAG: release.revision}
    for run in client.unfinished_runs(tags):
        return run["runId"], True
    client.add_partition(release.model)
    asked = request(release, BY)
    return client.launch(JOB, {**tags_of(release.platform, asked, release.revision), **tags}), False


def _reached(release: Release) -> bool:
    """Production is this release by the ledger, and answers: a server that was lost is brought back by a run."""
    return serves(release.platform.ledger.facts(release.model), release.fingerprints) and not _silence(release)


def _silence(release: Release) -> str:
    now = serving_now(release.platform, release.model, "production")
    return why_silent(release.platform, release.model, "production", now.body["deployment"]) if now else ""


def _serving_version(release: Release) -> str:
    """The version that people get answers from, whichever revision made it; empty for none."""
    now = serving_now(release.platform, release.model, "production")
    return now.body["version"] if now and not _silence(release) else ""


def _reason(release: Release, status: str) -> str:
    blocked = fold(release.model, release.platform.ledger.facts(release.model)).blocked
    if blocked:
        return "; ".join(f"{one.stage}: {one.reason}" for one in blocked)
    if silence := _silence(release):
        return f"production does not answer: {silence}"
    return f"the run ended as {status} without a recorded reason; its log is in the Dagster UI"
