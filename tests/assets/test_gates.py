"""The checks beside the assets show what the gates decided; the gates decide without them."""

import pytest
from dagster import AssetCheckResult, materialize

from llmops_assets.checks.gates import gates
from llmops_assets.definitions import STORY
from llmops_assets.operations.overview import overview
from llmops_assets.operations.planning import plan_release
from tests.fakes.http_gateway import Behaviour
from tests.fakes.platform_doors import Turn, World


def _checked(world: World, asset: str) -> AssetCheckResult:
    """The check alone, as somebody runs it from the UI."""
    (gate,) = [each for each in gates if each.check_key.asset_key.path[-1] == asset]
    return gate.node_def.compute_fn.decorated_fn(Turn("a check"), platform=world.resource())  # type: ignore[union-attr]


def test_a_run_of_an_asset_did_not_show_its_check(released: World) -> None:
    chosen = [each for each in STORY if each.key.path[-1] == "evaluation"]
    done = materialize(
        [*chosen, *[gate for gate in gates if gate.check_key.asset_key == chosen[0].key]],
        partition_key="tiny",
        instance=released.instance,
        resources={"platform": released.resource()},
    )
    (evaluation,) = done.get_asset_check_evaluations()
    assert evaluation.passed and evaluation.blocking


def test_a_check_judged_another_revision_than_its_run(released: World) -> None:
    released.repository.commit_model("training", seed=2)
    assert not _checked(released, "evaluation").passed  # nothing was evaluated at the new head


@pytest.mark.parametrize("asset", ["evaluation", "staging_tests", "canary"])
def test_a_stage_that_passed_was_shown_as_failed(released: World, asset: str) -> None:
    assert _checked(released, asset).passed


@pytest.mark.parametrize("asset", ["evaluation", "staging_tests", "canary"])
def test_a_stage_that_was_never_made_was_shown_as_passed(begun: World, asset: str) -> None:
    assert not _checked(begun, asset).passed


def test_a_failed_evaluation_was_shown_as_passed(begun: World) -> None:
    begun.jobs.right = 0.5
    begun.materialize("dataset", "base_weights", "weights", "evaluation")
    result = _checked(begun, "evaluation")
    assert not result.passed and "30 of 60 rows right" in str(result.description)


def test_a_refused_release_that_was_tried_again_had_no_reason(begun: World) -> None:
    begun.jobs.right = 0.5
    for _ in range(2):
        begun.materialize("dataset", "base_weights", "weights", "evaluation")
        (status,) = overview(begun.doors())
        assert [blocked.stage for blocked in status.blocked] == ["evaluation"]
        assert "30 of 60 rows right" in status.blocked[0].reason


def test_a_plan_used_an_evaluation_beside_another_production_model_again(candidate: World) -> None:
    assert candidate.materialize("canary", "production").success
    candidate.repository.commit_model("training", seed=1)  # as version 1, judged before version 2 served
    rows = {row.asset: row.action for row in plan_release(candidate.doors(), candidate.repository.head)}
    assert (rows["weights"], rows["evaluation"], rows["production"]) == ("skip", "run", "run")


def test_a_failed_canary_was_shown_as_passed(candidate: World) -> None:
    candidate.gateway.behaviours["tiny-production-v2"] = Behaviour(status=500)
    candidate.materialize("canary")
    assert not _checked(candidate, "canary").passed


def test_a_revision_whose_own_program_marks_wrong_answers_as_right_was_registered(begun: World) -> None:
    begun.jobs.right, begun.jobs.marked_right = 0.5, 1.0
    begun.materialize("dataset", "base_weights", "weights", "evaluation")
    result = _checked(begun, "evaluation")
    assert not result.passed and "the report says 60 of 60 right, its predictions 30 of 60" in str(result.description)
