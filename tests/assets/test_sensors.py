"""Sensors: a change starts one release, nothing else starts any, and what cannot be released says why."""

import time
from types import SimpleNamespace

import pytest
from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetRecordsFilter,
    DagsterEvent,
    DagsterEventType,
    DagsterRun,
    DagsterRunStatus,
    MaterializeResult,
    RunRequest,
    SensorResult,
    SkipReason,
    build_run_status_sensor_context,
    build_sensor_context,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id

from llmops_assets.assets.monitoring import judge_slos, measured
from llmops_assets.deploying import serving_now
from llmops_assets.jobs.release import release
from llmops_assets.jobs.watch import watch
from llmops_assets.schedules.operation import watch_production
from llmops_assets.sensors.approvals import approvals
from llmops_assets.sensors.audits import audits
from llmops_assets.sensors.dependents import dependents
from llmops_assets.sensors.failures import failures, orphans
from llmops_assets.tags import GENERATION_TAG, REVISION_TAG
from llmops_core.errors import TransientError
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS, TrafficCounts
from llmops_core.verdict import Verdict
from resources.wiring import Platform
from tests.fakes.people import GRACE, signed
from tests.fakes.platform_doors import UNTIL_APPROVAL, World
from tests.fakes.ticking import Ticking


def _approvals(world: World, cursor: str) -> SensorResult:
    with build_sensor_context(instance=world.instance, cursor=cursor) as context:
        return approvals(context, platform=world.resource())  # type: ignore[return-value]


def test_a_signature_did_not_continue_the_release_that_waits(tested: World) -> None:
    assert not tested.materialize("approval").success
    begun = _approvals(tested, "0")
    assert begun.run_requests == [] and begun.cursor
    signed(tested, GRACE)
    result = _approvals(tested, begun.cursor)
    (request,) = result.run_requests or []
    assert request.tags[REVISION_TAG] == tested.repository.head and request.partition_key == "tiny"
    assert _approvals(tested, str(result.cursor)).run_requests == []
    assert tested.materialize(*UNTIL_APPROVAL, tags=dict(request.tags)).success


def test_a_late_signature_took_an_older_release_to_production_after_a_newer_one(tested: World) -> None:
    assert not tested.materialize("approval").success
    signed(tested, GRACE)
    tested.repository.commit_model("training", seed=3)
    (newer,) = Ticking(tested).tick()
    assert newer.tags[REVISION_TAG] == tested.repository.head
    result = _approvals(tested, "0")
    assert result.run_requests == [] and result.cursor != "0"


def test_a_continued_release_could_not_be_superseded_in_the_queue(tested: World) -> None:
    (asked,) = Ticking(tested).tick()
    assert not tested.materialize("approval", tags=dict(asked.tags)).success
    signed(tested, GRACE)
    (request,) = _approvals(tested, "0").run_requests or []
    assert request.tags[GENERATION_TAG] == asked.tags[GENERATION_TAG] and request.run_key != asked.run_key


def _dependents(world: World, cursor: str) -> SensorResult | SkipReason:
    with build_sensor_context(instance=world.instance, cursor=cursor) as context:
        return dependents(context, platform=world.resource())  # type: ignore[return-value]


def test_a_model_never_went_on_after_the_one_it_depends_on_came_to_production(released: World) -> None:
    released.repository.commit_model("serving", parallel=2)
    released.repository.commit_model(depends_on=["first"])
    assert not released.materialize().success
    before = _dependents(released, "0")
    assert isinstance(before, SensorResult) and before.run_requests == []
    served = {
        "deployment": "first-production-v1",
        "state": "serving",
        "revision": "x",
        "version": "1",
        "previous": None,
    }
    released.doors().ledger.append(
        "switched", model="first", subject="production", body={**served, "weights_digest": "0" * 64, "why": "promoted"}
    )
    after = _dependents(released, str(before.cursor))
    assert isinstance(after, SensorResult)
    (request,) = after.run_requests or []
    assert (request.partition_key, request.tags[REVISION_TAG]) == ("tiny", released.repository.head)
    assert released.materialize(tags=dict(request.tags)).success
    assert isinstance(again := _dependents(released, "0"), SensorResult) and again.run_requests == []


def test_signatures_of_the_platform_itself_started_runs(released: World) -> None:
    assert _approvals(released, "0").run_requests == []


def _ended(world: World, status: DagsterRunStatus, run_id: str):
    run = next(run for run in world.instance.get_runs() if run.run_id == run_id)
    events = [e.dagster_event for e in world.instance.all_logs(run_id) if e.is_dagster_event]
    wanted = {"FAILURE": "PIPELINE_FAILURE", "SUCCESS": "PIPELINE_SUCCESS"}[status.value]
    event = next(e for e in events if e and e.event_type_value == wanted)
    return build_run_status_sensor_context("sensor", event, world.instance, run)


def test_a_run_that_died_without_a_word_was_never_heard_of(begun: World) -> None:
    begun.jobs.fails["pretrain"] = [ZeroDivisionError("a defect")] * 5  # type: ignore[list-item]
    run = begun.materialize("dataset", "base_weights")
    context = _ended(begun, DagsterRunStatus.FAILURE, run.run_id).for_run_failure()
    failures(context, platform=begun.resource())
    failures(context, platform=begun.resource())
    (reason,) = begun.reasons("run")
    assert reason.startswith("the run ended:")


def test_a_refusal_that_is_told_was_told_twice(begun: World) -> None:
    run = begun.materialize("weights")
    failures(_ended(begun, DagsterRunStatus.FAILURE, run.run_id).for_run_failure(), platform=begun.resource())
    assert begun.reasons("run") == [] and len(begun.reasons("weights")) == 1


def test_a_release_was_not_audited(released: World) -> None:
    run = released.materialize("dataset", tags={"dagster/partition": "tiny"})
    request = audits(_ended(released, DagsterRunStatus.SUCCESS, run.run_id), platform=released.resource())
    assert isinstance(request, RunRequest) and request.partition_key == "tiny"


def test_nothing_in_production_was_audited(begun: World) -> None:
    run = begun.materialize("dataset")
    skipped = audits(_ended(begun, DagsterRunStatus.SUCCESS, run.run_id), platform=begun.resource())
    assert isinstance(skipped, SkipReason)


def test_production_was_not_watched(released: World) -> None:
    assert released.materialize("monitoring").success
    assert [type(each) for each in _scheduled(released)] == [RunRequest]


def test_a_model_that_serves_was_not_measured_or_only_between_its_releases(released: World) -> None:
    done = watch.execute_in_process(resources={"platform": released.resource()}, instance=released.instance)
    assert done.success and "dagster/partition" not in done.dagster_run.tags  # the queue keeps a model's runs apart
    for asset, check in (("monitoring", "objectives"), ("feedback", "gives_rows")):
        wanted = AssetRecordsFilter(AssetKey(asset), asset_partitions=["tiny"])
        (record,) = released.instance.fetch_materializations(wanted, limit=1).records
        assert record.run_id == done.run_id and "verdict" in record.asset_materialization.metadata
        storage = released.instance.event_log_storage
        (seen,) = storage.get_asset_check_execution_history(AssetCheckKey(AssetKey(asset), check), limit=1)
        assert seen.evaluation.partition == "tiny" and seen.evaluation.metadata["verdict"].value


@pytest.mark.parametrize("error", [TransientError("nobody counts"), KeyError("nobody counts")])
def test_a_model_that_cannot_be_measured_kept_others_from_it(
    released: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Or its own ratings, or left the last good word standing."""
    seen: list[str] = []

    def broken(doors: Platform, model: str) -> MaterializeResult:
        seen.append(model)
        if model == "broken":
            raise error
        return measured(doors, model)

    def rated(doors: Platform, model: str) -> MaterializeResult:
        seen.append(f"ratings of {model}")
        return MaterializeResult()

    serving = serving_now(released.doors(), "tiny", "production")
    monkeypatch.setattr("llmops_assets.jobs.watch.serving_now", lambda *_: serving)
    monkeypatch.setattr("llmops_assets.jobs.watch.measured", broken)
    monkeypatch.setattr("llmops_assets.jobs.watch.curated", rated)
    monkeypatch.setattr(type(released.instance), "get_dynamic_partitions", lambda *_: ["broken", "tiny"])
    resources = {"platform": released.resource()}
    done = watch.execute_in_process(resources=resources, instance=released.instance, raise_on_error=False)
    assert not done.success and seen == ["broken", "ratings of broken", "tiny", "ratings of tiny"]
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "broken: monitoring" in str(failure.event_specific_data) and "nobody counts" in str(failure)
    storage = released.instance.event_log_storage
    history = storage.get_asset_check_execution_history(AssetCheckKey(AssetKey("monitoring"), "objectives"), limit=9)
    told = {each.evaluation.partition: each.evaluation for each in reversed(history)}
    assert not told["broken"].passed and "nobody counts" in str(told["broken"].description)
    assert told["tiny"].metadata["verdict"].value


def test_a_second_look_began_while_the_first_was_at_work(released: World) -> None:
    made = create_run_for_test(released.instance, job_name="watch", status=DagsterRunStatus.STARTED)
    (skipped,) = _scheduled(released)
    assert isinstance(skipped, SkipReason) and f"run {made.run_id[:8]} still looks" in str(skipped)


def test_what_does_not_serve_was_watched(begun: World) -> None:
    done = begun.materialize("monitoring")
    (skipped,) = _scheduled(begun)
    assert isinstance(skipped, SkipReason)
    (event,) = [e for e in done.all_events if e.is_step_materialization]
    assert event.step_materialization_data.materialization.metadata["verdict"].value == "error"


def _scheduled(world: World) -> list:
    """One evaluation. Dagster's own context demands an instance on disk."""
    context = SimpleNamespace(instance=world.instance)
    return [watch_production._execution_fn.decorated_fn(context, platform=world.resource())]  # type: ignore[union-attr]


@pytest.mark.parametrize(("total", "bad"), [(100, 1), (100, 3)])
def test_a_spent_error_budget_was_a_pass(total: int, bad: int) -> None:
    counts = _counts(total, bad, faster_than=0.25)
    errors, _ = judge_slos(counts, 0.02, 0.5)
    assert errors.verdict is (Verdict.PASSED if bad <= 2 else Verdict.FAILED)


@pytest.mark.parametrize("faster_than", [0.25, 1.0, 1000.0])
def test_slow_answers_were_a_pass(faster_than: float) -> None:
    _, latency = judge_slos(_counts(100, 0, faster_than), 0.02, 0.5)
    assert latency.verdict is (Verdict.PASSED if faster_than <= 0.5 else Verdict.FAILED)


def test_no_traffic_was_a_pass() -> None:
    assert {finding.verdict for finding in judge_slos(None, 0.02, 0.5)} == {Verdict.ERROR}


def _counts(total: int, bad: int, faster_than: float) -> TrafficCounts:
    faster = tuple(total if edge >= faster_than else 0 for edge in LATENCY_EDGES_SECONDS)
    return TrafficCounts(requests=total, failures=bad, abandoned=0, edges_seconds=LATENCY_EDGES_SECONDS, faster=faster)


def test_a_run_whose_process_was_killed_went_on_for_ever(begun: World) -> None:
    old = DagsterRun(job_name=release.name, run_id=make_new_run_id())
    begun.instance.add_run(old)
    started = DagsterEvent(DagsterEventType.RUN_START.value, release.name)
    begun.instance.report_dagster_event(started, run_id=old.run_id)
    with build_sensor_context(instance=begun.instance) as context, pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmops_assets.sensors.failures.DefaultRunLauncher", type(begun.instance.run_launcher))
        orphans(context)
        assert status(begun, old) is DagsterRunStatus.STARTED  # younger than this process
        patch.setattr("psutil.Process.create_time", lambda _: time.time() + 60)
        orphans(context)
    assert status(begun, old) is DagsterRunStatus.FAILURE


def status(world: World, run: DagsterRun) -> DagsterRunStatus:
    found = world.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status
