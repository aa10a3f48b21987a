"""Watches a branch of a repository: a commit that changes what a model is starts its release, once.

What a commit asks for is decided in operations/changes.py; here it becomes Dagster's: run requests, partitions, a
cursor, and a text for the tick. A tick that finds branch and ledger where they were costs one reading of each. An
unreadable repository fails the tick, which is seen in the UI and tried again. A repository elsewhere is fetched first
(the platform's own too, where it works in pods); while it cannot be reached the cursor stays, so that nothing is lost.

A remote with data that cannot be reached holds up its own models. A tick that fails keeps no cursor, and would begin
with the same models again; so one that came further says what failed and keeps that, and the next, which has nothing
else to tell, fails. The remote is asked again after a pause that grows; a new commit is looked at all the same.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from llmops_assets.code_location import end_this_process, shape_of
from llmops_assets.jobs.release import release
from llmops_assets.operations.changes import Change, Decision, change_since, decide, run_key
from llmops_assets.partitions import models
from llmops_assets.release import head_of
from llmops_assets.repositories import repository_in
from llmops_assets.resource import PlatformResource
from llmops_assets.tags import GENERATION_TAG, PARTITION_TAG, REQUEST_TAG, REVISION_TAG, tags_of
from llmops_core.cursor import SILENT, Cursor, read_cursor
from llmops_core.errors import LlmopsError
from llmops_core.facts import Fact
from llmops_core.names import shown
from llmops_core.outage import Reach
from llmops_core.repositories import WatchedRepository
from resources.wiring import Platform

INTERVAL_SECONDS = 15
DECIDING_SECONDS = 20.0
LONGEST_WAIT_TICKS = 20  # data that no remote has is looked for every tick at first, every five minutes later


def watching(watched: WatchedRepository | None = None) -> SensorDefinition:
    """The sensor of one repository: a watched one, or the platform's own checkout."""
    name = watched.sensor if watched else "repository"

    @sensor(
        name=name,
        job=release,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description=f"Releases what a commit of {watched.url if watched else 'this repository'} changes, once.",
    )
    def look(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
        doors = platform.open().at(watched.name) if watched else None
        silent = doors.mirror.refresh(INTERVAL_SECONDS) if doors else platform.fetch(INTERVAL_SECONDS)
        if silent.why:
            return SkipReason(silent.told)
        if doors is None:
            platform.refuse_broken_settings()
            doors = platform.open()
        if doors.home.origin and platform.shape != shape_of(doors.settings):
            return _start_again(context, doors)
        return _tick(context, doors, name)

    return look


repository = watching()


def _start_again(context: SensorEvaluationContext, doors: Platform) -> SkipReason:
    why = f"config/{doors.settings.name}.yaml names other sensors, or another executor, than the code location has"
    if end_this_process():
        return SkipReason(f"{why}: it starts again")
    context.log.warning(f"{why}: start it again")
    return SkipReason(f"{why}: start it again, nothing is released until then")


def _tick(context: SensorEvaluationContext, doors: Platform, name: str) -> SensorResult | SkipReason:
    head, seen = head_of(doors), read_cursor(context.cursor, doors.rules)
    newest = doors.ledger.last("requested", "retired")
    if seen is not None and not _is_known(doors, newest, seen):
        context.log.warning("the ledger is older than this sensor: it was restored, and all models are decided again")
        seen = None
    at_rest = seen is not None and seen.revision == head
    if seen is not None and at_rest and not seen.waiting and seen.facts == (newest.sequence if newest else 0):
        return SkipReason(f"nothing new at {head[:12]}")
    outage = doors.data_reach(name)
    paused = outage.pauses(time.time())
    waiting = dict(seen.waiting) if seen else {}
    change = change_since(doors, seen.revision if seen else None, head)
    due = _due(doors, change, seen, name, paused)
    if at_rest and paused and not due and waiting.keys() == _silent(waiting):
        return SkipReason(outage.told)
    decisions, failures = _decided_in_time(doors, due, change, waiting, name)
    left = due[len(decisions) :]
    requests = [_run_request(doors, fact) for fact in _to_launch(context.instance, decisions)]
    _supersede(context.instance, requests, [each.ends for each in decisions if each.ends])
    still = _still_waiting(waiting, decisions, left)
    doors.keep_data_reach(name, _after(outage, failures, bool(_silent(still))))
    if failures and at_rest and not requests and still.keys() == waiting.keys() and _silent(still) <= _silent(waiting):
        raise failures[0]
    lines = [_heading(change, seen), *(f"{shown(each.model)}: {each.why}" for each in decisions)]
    if left:
        lines.append(f"{len(left)} more models are decided in the next tick")
    if paused and not failures and _silent(still):
        lines.append(outage.told)
    for line in lines:
        context.log.info(line)
    written = [newest, *(fact for each in decisions for fact in (each.request, each.ends))]
    last = max(filter(None, written), key=lambda fact: fact.sequence, default=None)
    cursor = Cursor(
        head,
        doors.rules,
        waiting=still,
        facts=last.sequence if last else 0,
        digest=last.digest if last else "",
    )
    return SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "\n".join(lines),
        cursor=str(cursor),
        dynamic_partitions_requests=_new_partitions(context.instance, decisions),
    )


def _due(platform: Platform, change: Change, seen: Cursor | None, by: str, paused: bool) -> list[str]:
    """The models to decide, those last whose remote was silent: they may take long."""
    if seen is None:
        return sorted(change.models)
    untold = [fact.model for fact in _asked_here(platform, by, seen.facts)]
    again = (model for model, looks in seen.waiting.items() if (not paused if looks == SILENT else _is_due(looks)))
    silent = _silent(seen.waiting)
    return sorted({*change.models, *untold, *again}, key=lambda model: (model in silent, model))


def _run_request(platform: Platform, request: Fact) -> RunRequest:
    return RunRequest(run_key=run_key(request), partition_key=request.model, tags=tags_of(platform, request))


def _is_known(platform: Platform, newest: Fact | None, seen: Cursor) -> bool:
    """Whether the ledger still has the fact that the cursor names: not if a backup of it was restored."""
    if not seen.facts or (newest is not None and newest.digest == seen.digest):
        return True
    there = platform.ledger.facts(after=seen.facts - 1, before=seen.facts + 1)
    return bool(there) and there[0].digest == seen.digest


def _asked_here(platform: Platform, by: str, after: int) -> list[Fact]:
    """The newest request or retirement of each model, if this sensor wrote it after the cursor's fact: a tick that died
    wrote it. Its model is looked at again, even if the branch is back where the cursor has it. What a person asked for
    since stands until a commit changes the model."""
    newest = platform.ledger.newest_of_each("requested", "retired", after=after)
    return [fact for fact in newest if repository_in(fact) == platform.repository and fact.body.get("by") in (by, None)]


def _after(outage: Reach, failures: Sequence[LlmopsError], silent: bool) -> Reach:
    """What is known then; nothing new while models wait for a remote that was not asked."""
    now = time.time()
    if failures:
        return outage.failed(now, str(failures[0]), INTERVAL_SECONDS)
    return outage.answered(now) if outage.why and not silent else outage


def _decided_in_time(
    platform: Platform, names: Sequence[str], change: Change, waiting: Collection[str], by: str
) -> tuple[list[Decision], list[LlmopsError]]:
    """Decisions for the first of these models, as many as fit; Dagster gives up a tick that takes a minute. A model
    whose remote is silent waits, and so does one that cannot be read; neither holds up the others."""
    until = time.monotonic() + DECIDING_SECONDS
    decisions: list[Decision] = []
    failures: list[LlmopsError] = []
    for name in names:
        try:
            since = replace(change, base=None) if name in waiting else change  # it was not decided there
            decisions.append(decide(platform, name, since, by))
        except LlmopsError as error:
            failures.append(error)
            decisions.append(Decision(name, "silent", f"not decided, tried again: {error}"))
        if time.monotonic() > until:
            break
    return decisions, failures


def _to_launch(instance: DagsterInstance, decisions: Sequence[Decision]) -> list[Fact]:
    """The requests without a run. Dagster would launch none twice, but the tick would say that it did."""
    again = (each.request for each in decisions if each.verb == "nothing" and each.request is not None)
    known = {one.sequence for one in again if instance.get_runs(RunsFilter(tags=_of(one)), limit=1)}
    return [each.request for each in decisions if each.request is not None and each.request.sequence not in known]


def _of(request: Fact) -> dict[str, str]:
    """The tags that a run of this request has, whoever launched it."""
    return {PARTITION_TAG: request.model, REQUEST_TAG: request.digest}


def _supersede(instance: DagsterInstance, requests: Sequence[RunRequest], ended: Sequence[Fact] = ()) -> None:
    """Ends releases of the same models that wait in the queue: a newer one holds their change too, or there are no more
    of this model. What runs goes on; the queue lets a model's next release start only after it."""
    newer = {str(one.partition_key): (int(one.tags[GENERATION_TAG]), one.tags[REVISION_TAG]) for one in requests}
    newer |= {one.model: (one.body["generation"], str(one.body.get("revision", "retirement"))) for one in ended}
    queued = RunsFilter(job_name=release.name, statuses=[DagsterRunStatus.QUEUED])
    for run in instance.get_runs(queued) if newer else ():
        generation, by = newer.get(run.tags.get(PARTITION_TAG, ""), (0, ""))
        if int(run.tags.get(GENERATION_TAG, generation)) < generation:
            instance.report_run_canceled(run, message=f"superseded by {by[:12]}")


def _heading(change: Change, seen: Cursor | None) -> str:
    head = change.head.revision[:12]
    if seen is None:
        return f"all models at {head}: nothing was decided before"
    if change.passage.kinship == "same":
        return f"still at {head}"
    came = len(change.passage.commits)
    between = f", which acts for {came - 1} more before it" if came > 1 else ""
    history = {
        "forward": "",
        "rewritten": f"; the history was rewritten: {len(change.passage.dropped)} commits are gone from it",
        "unrelated": "; the new history has nothing in common with the one before",
        "unknown": f"; {seen.revision[:12]} is not here any more (a shallow clone, or a rewritten history)",
    }
    return f"{head} after {seen.revision[:12]}{between}{history[change.passage.kinship]}"


def _is_due(looks: int) -> bool:
    """At once when it was not looked at; after 1, 2, 4, 8 and 16 ticks, then every LONGEST_WAIT_TICKS."""
    return looks % LONGEST_WAIT_TICKS == 0 or (looks < LONGEST_WAIT_TICKS and looks & (looks - 1) == 0)


def _silent(waiting: Mapping[str, int]) -> set[str]:
    return {model for model, looks in waiting.items() if looks == SILENT}


def _still_waiting(waiting: Mapping[str, int], decisions: Sequence[Decision], left: Sequence[str]) -> dict[str, int]:
    """The models to look at again, with the number of looks; `left` were due and did not fit into this tick."""
    decided = {each.model: each.verb for each in decisions}
    kept = {model: looks for model, looks in waiting.items() if model not in decided}
    still = {model: looks if looks == SILENT else looks + 1 for model, looks in kept.items()}
    still |= {model: max(waiting.get(model, 0), 0) + 1 for model, verb in decided.items() if verb == "waits"}
    still |= {model: SILENT for model, verb in decided.items() if verb == "silent"}
    return still | {model: min(waiting.get(model, 0), 0) for model in left}


def _new_partitions(instance: DagsterInstance, decisions: Sequence[Decision]) -> list | None:
    known = set(instance.get_dynamic_partitions(models.name or "")) if decisions else set()
    new = [each.model for each in decisions if each.verb not in ("retired", "refused") and each.model not in known]
    return [models.build_add_request(new)] if new else None
