"""The releases that are under way, as Dagster knows them.

The ledger says what a run did, not whether it still lives: a killed one writes nothing. So Dagster is asked, for less
than a second, since a status must not wait for it. Without an answer nothing is known, which is not the same as none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmops_assets.cli.dagster_client import DagsterClient
from llmops_assets.cli.following import JOB
from llmops_assets.tags import PARTITION_TAG, REVISION_TAG
from llmops_core.errors import TransientError

LIMIT_SECONDS = 0.7
DETAILS = "jobName creationTime startTime stepStats { stepKey status }"


@dataclass(frozen=True)
class UnderWay:
    """`stages` are those that run now; none while the run waits or starts. `since` is when it started, or was asked
    for. `revision` is empty until a run that a person began in the UI is pinned."""

    model: str
    revision: str
    run_id: str
    state: str
    since: str
    stages: tuple[str, ...]

    @property
    def told(self) -> str:
        """One sentence."""
        doing = f"at {', '.join(self.stages)}" if self.stages else self.state
        what = f"{self.revision[:12] or 'A revision that is not pinned yet'} of {self.model} is being released"
        return f"{what}: {doing}, since {self.since[11:16]} UTC of {self.since[:10]} (run {self.run_id})"


def releases_under_way(dagster_url: str) -> list[UnderWay] | None:
    """By model, the oldest first; None where Dagster does not answer in time."""
    try:
        found = DagsterClient(dagster_url, LIMIT_SECONDS).unfinished_runs({}, DETAILS)
    except TransientError:
        return None
    releases = [_release(run, tags) for run in found if _is_release(run, tags := _tags(run))]
    return sorted(releases, key=lambda one: (one.model, one.since))


def _tags(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def _is_release(run: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """Also what a person began in the UI, which gets its revision with its first stage; no audit and no watch."""
    return PARTITION_TAG in tags and (run["jobName"] == JOB or REVISION_TAG in tags)


def _release(run: Mapping[str, Any], tags: Mapping[str, str]) -> UnderWay:
    since = datetime.fromtimestamp(run["startTime"] or run["creationTime"], UTC)
    stages = tuple(sorted(step["stepKey"] for step in run["stepStats"] if step["status"] == "IN_PROGRESS"))
    state = run["status"].lower().replace("_", " ")
    revision = tags.get(REVISION_TAG, "")
    return UnderWay(tags[PARTITION_TAG], revision, run["runId"], state, since.isoformat(timespec="seconds"), stages)
