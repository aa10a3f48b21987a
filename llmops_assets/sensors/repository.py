"""Watches the environment's branch: a commit that changes what a model is starts its release, once.

What a commit changes is decided by fingerprints, not by paths: a model whose production fingerprint is the one that
its latest run was started for has nothing to do. The run key names that latest run too, so that going back to an
earlier commit is a new release while a repeated tick is not. An unreadable repository fails the tick; it is seen in the
UI and tried again.
"""

from collections.abc import Iterator

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from llmops_assets.jobs.release import release
from llmops_assets.partitions import models
from llmops_assets.release import head_of, models_at, open_release
from llmops_assets.resource import PlatformResource
from llmops_assets.step import FINGERPRINT_TAG, REVISION_TAG
from llmops_core.errors import InputError
from llmops_core.validation import lacks
from resources.wiring import Platform

INTERVAL_SECONDS = 15


@sensor(job=release, minimum_interval_seconds=INTERVAL_SECONDS, default_status=DefaultSensorStatus.RUNNING)
def repository(context: SensorEvaluationContext, platform: PlatformResource) -> SensorResult | SkipReason:
    """Starts a release for every model that the newest commit of the branch changes."""
    doors = platform.open()
    head = head_of(doors)
    if context.cursor == head:
        return SkipReason(f"nothing new at {head[:12]}")
    known = set(context.instance.get_dynamic_partitions(models.name or ""))
    names = models_at(doors, head)
    decided = [_decide(context, doors, name, head) for name in names]
    for _, why in decided:
        context.log.info(why)
    requests = [request for request, _ in decided if request is not None]
    new = [name for name in names if name not in known]
    return SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(why for _, why in decided) or f"no models at {head[:12]}",
        cursor=head,
        dynamic_partitions_requests=[models.build_add_request(new)] if new else None,
    )


def _decide(
    context: SensorEvaluationContext, platform: Platform, model: str, head: str
) -> tuple[RunRequest | None, str]:
    """The run that this commit asks for, or None, and why in one sentence."""
    try:
        opened = open_release(platform, model, head)
    except InputError as error:
        body = {"reason": str(error), "revision": head}
        pinned = {"revision": head, "run_id": "repository"}
        platform.ledger.append("pinned", model=model, subject="run", body=pinned, once=f"pinned:{model}:{head}:invalid")
        platform.ledger.append("refused", model=model, subject="model.yaml", body=body, once=f"invalid:{model}:{head}")
        return None, f"{model}: refused: {error}"
    if missing := lacks(opened.spec, opened.inputs.production):
        return None, f"{model}: not tried here: {'; '.join(missing)}"
    fingerprint = opened.fingerprints["production"]
    latest_id, latest_fingerprint = _latest_run(context, model)
    if latest_fingerprint == fingerprint:
        return None, f"{model}: nothing it depends on changed"
    commit = platform.source.commit(head)
    reason = next((line for line in commit.message.splitlines() if line.strip()), "")[:120]
    tags = {REVISION_TAG: head, FINGERPRINT_TAG: fingerprint, "llmops/author": commit.email, "llmops/reason": reason}
    key = f"{model}:{fingerprint}:{latest_id}"
    return RunRequest(run_key=key, partition_key=model, tags=tags), f"{model}: released from {head[:12]} ({reason})"


def _latest_run(context: SensorEvaluationContext, model: str) -> tuple[str, str]:
    """(run id, fingerprint) of the newest release that was asked for."""
    for run in _releases(context, model):
        return run
    return "", ""


def _releases(context: SensorEvaluationContext, model: str) -> Iterator[tuple[str, str]]:
    wanted = RunsFilter(job_name=release.name, tags={"dagster/partition": model})
    for record in context.instance.get_run_records(wanted, limit=20):
        if fingerprint := record.dagster_run.tags.get(FINGERPRINT_TAG):
            yield record.dagster_run.run_id, fingerprint
