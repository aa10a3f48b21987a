"""Canaries that nobody drives: their runs go on, or their traffic goes back.

A worker that is killed leaves its candidate a share of production which nobody judges. A run of the same release goes
on from the last tick. It is asked for a few times, after longer and longer pauses, because what killed the first one
may kill the next; then the traffic goes back. So it does at once where no run may go on: the release was refused,
cancelled, superseded, or a person ended it.

One that passed is judged by nobody until it is promoted. A run that died is followed by another; who materialized the
canary alone has QUIET_SECONDS to promote it. A run that waits or hangs keeps no traffic for longer either. Promotion
hashes every byte of the release again, so that large weights have more time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from llmops_assets.canary_end import baseline_of, decide_way_back, give_back, refuse_unless_open, tell
from llmops_assets.deploying import retire_unrouted
from llmops_assets.jobs.audit import audit
from llmops_assets.jobs.take_arrivals import take_arrivals
from llmops_assets.tags import PARTITION_TAG, REVISION_TAG
from llmops_core.errors import LlmopsError
from llmops_core.facts import Fact
from llmops_core.open_canary import OpenCanary, open_canary
from resources.wiring import Platform

RUNS = 3
FIRST_PAUSE_SECONDS = 60.0  # a cluster starts a run anew whose worker died within this time
QUIET_SECONDS = 600.0  # nobody keeps a share for longer without a tick; settings ask for one every 300 s at least
HASHED_BYTES_PER_SECOND = 50e6  # by a promotion in a pod of its own: two models fetched, and read three times
CANARY_TAG = "llmops/canary"  # of a run that goes on with one: the digest of the fact that began it
OTHERS = {job.name for job in (audit, take_arrivals)}
ENDED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}


@dataclass(frozen=True)
class Step:
    """What is to be done: go on in the run of this number, or give the traffic back because of `over`."""

    canary: OpenCanary
    run: int = 0
    over: str = ""


def open_canaries(platform: Platform) -> list[tuple[OpenCanary, list[Fact]]]:
    """Each with its model's facts since it began. Of a thousand models hardly one has a canary, and their facts are
    many: those whose canary was followed by a switch are not read."""
    newest, subject = platform.ledger.newest_of_each, "production"
    ended = {fact.model: fact.sequence for fact in newest("switched", "retired", subject=subject)}
    found: list[tuple[OpenCanary, list[Fact]]] = []
    for start in newest("intended", subject="canary"):
        if ended.get(start.model, 0) > start.sequence:
            continue
        facts = platform.ledger.facts(start.model, after=start.sequence - 1)
        if (canary := open_canary(facts)) is not None:
            found.append((canary, facts))
    return found


def step_of(canary: OpenCanary, facts: Sequence[Fact], instance: DagsterInstance, now: float) -> Step | None:
    """None while a run drives it, or another one is not due yet."""
    ours = RunsFilter(tags={PARTITION_TAG: canary.start.model})
    runs = [one for one in instance.get_run_records(ours, limit=50) if one.dagster_run.job_name not in OTHERS]
    going = [one for one in runs if one.dagster_run.status not in ENDED]
    driving = [one for one in going if one.dagster_run.tags.get(REVISION_TAG) in (None, canary.revision)]
    quiet_seconds = _quiet_seconds(canary, driving, now)
    is_quiet = quiet_seconds >= _longest_quiet_seconds(canary)
    if going and not is_quiet:
        return None
    if over := _why_over(canary, facts, runs, going, driving, is_quiet):
        return Step(canary, over=over)
    if canary.has_passed and runs and runs[0].dagster_run.status is DagsterRunStatus.SUCCESS:
        return None
    tries = sum(one.dagster_run.tags.get(CANARY_TAG) == canary.start.digest for one in runs)
    ended_seconds = min((now - one.update_timestamp.timestamp() for one in runs), default=quiet_seconds)
    if min(quiet_seconds, ended_seconds) < FIRST_PAUSE_SECONDS * 2**tries:
        return None
    if tries >= RUNS:
        return Step(canary, over=f"{RUNS} more runs died before they could end it")
    return Step(canary, run=tries + 1)


def end_canary(platform: Platform, step: Step) -> str:
    """Decides that the traffic goes back, gives it back, writes that the canary has ended, then ends its server. What a
    person must know. Raises GateRefused when nothing is left to go back to, or somebody else ended it meanwhile."""
    canary, model = step.canary, step.canary.start.model
    baseline = baseline_of(platform, model, canary.candidate)
    decide_way_back(platform, canary, "way_back", {"reason": step.over})
    told = give_back(platform, model, baseline, lambda: refuse_unless_open(canary.start, platform.ledger.facts(model)))
    to = baseline.name if baseline is not None else "nobody"
    reason = "; ".join([f"all traffic went back to {to}: {step.over}", *told])
    tell(platform, canary, 0, reason, canary.revision)
    try:
        retire_unrouted(platform, model, canary.candidate)
    except LlmopsError as error:
        reason = f"{reason}; its server may still run: {error}"
    return reason


def _quiet_seconds(canary: OpenCanary, driving: Sequence[RunRecord], now: float) -> float:
    """For how long nobody has judged it. A run that was asked for to go on with it has as long again, but for one that
    passed: nothing is judged any more."""
    asked = [] if canary.has_passed else [one.create_timestamp.timestamp() for one in driving]
    return now - max([datetime.fromisoformat(canary.seen_at).timestamp(), *asked])


def _longest_quiet_seconds(canary: OpenCanary) -> float:
    return QUIET_SECONDS + (canary.weights_bytes / HASHED_BYTES_PER_SECOND if canary.has_passed else 0)


def _why_over(
    canary: OpenCanary,
    facts: Sequence[Fact],
    runs: Sequence[RunRecord],
    going: Sequence[RunRecord],
    driving: Sequence[RunRecord],
    is_quiet: bool,
) -> str:
    """Of one that no run may drive on from here, though one may go on and begin it anew; empty for any other."""
    if canary.over:
        return canary.over
    if (going and not driving) or _is_superseded(canary, facts):
        return "a newer release was asked for"
    if runs and runs[0].dagster_run.status is DagsterRunStatus.CANCELED:
        return "its run was cancelled"
    if canary.has_passed and is_quiet:
        return f"it passed, and was not promoted within {_longest_quiet_seconds(canary) / 60:.0f} minutes"
    if driving:
        return f"nobody judged it for {QUIET_SECONDS / 60:.0f} minutes"
    return "" if canary.revision else "it was begun by an older version of the platform"


def _is_superseded(canary: OpenCanary, facts: Sequence[Fact]) -> bool:
    """By a release that was asked for, or begun, after it."""
    newer = (f for f in facts if f.kind in ("requested", "pinned") and f.sequence > canary.start.sequence)
    return any(fact.body["revision"] != canary.revision for fact in newer)
