"""The checks beside the assets look at the real thing: what is gone, changed or unknown has not passed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import AssetCheckResult, AssetCheckSeverity, ExecuteInProcessResult

from llmops_assets.checks.evidence import evidence
from llmops_assets.checks.gates import gates
from llmops_assets.definitions import STORY
from llmops_assets.deploying import public_url
from llmops_assets.operations.endpoint import ask
from llmops_assets.partitions import models
from tests.fakes.platform_doors import Turn, World

OF_ITS_OWN = {(check.check_key.asset_key.path[-1], check.check_key.name): check for check in [*gates, *evidence]}


def checked(world: World, asset: str, name: str, run_id: str = "a check") -> AssetCheckResult:
    """The check alone, as somebody runs it from the UI."""
    function = OF_ITS_OWN[asset, name].node_def.compute_fn.decorated_fn  # type: ignore[union-attr]
    return function(Turn(run_id), platform=world.resource())


def test_an_asset_of_the_story_had_no_check() -> None:
    of_a_run = {spec.asset_key.path[-1] for asset in STORY for spec in asset.check_specs}
    assert of_a_run | {asset for asset, _ in OF_ITS_OWN} == {asset.key.path[-1] for asset in STORY}


def test_a_check_without_partitions_froze_every_model() -> None:
    specs = [spec for definition in [*gates, *evidence, *STORY] for spec in definition.check_specs]
    assert len(specs) == len(OF_ITS_OWN) + 3 and all(spec.partitions_def == models for spec in specs)


@pytest.mark.parametrize(("asset", "name"), OF_ITS_OWN)
def test_what_is_in_order_was_shown_as_failed(released: World, asset: str, name: str) -> None:
    result = checked(released, asset, name)
    assert result.passed, result.description


@pytest.mark.parametrize(("asset", "name"), OF_ITS_OWN)
def test_what_was_never_made_was_shown_as_passed(begun: World, asset: str, name: str) -> None:
    assert not checked(begun, asset, name).passed


@pytest.mark.parametrize("asset", ["dataset", "base_weights", "weights"])
def test_a_changed_byte_was_shown_as_intact(released: World, asset: str) -> None:
    _spoil(released, asset, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    result = checked(released, asset, "intact")
    assert not result.passed and asset in str(result.description)


def test_a_training_that_diverged_was_shown_as_learning(begun: World) -> None:
    begun.jobs.diverged_at_step = 7
    begun.materialize("dataset", "base_weights", "weights")
    for asset in ("base_weights", "weights"):
        result = checked(begun, asset, "learnt")
        assert not result.passed and "step 7" in str(result.description)


def test_weights_that_were_only_handed_on_could_not_be_shown(begun: World) -> None:
    begun.repository.commit_model(training={"method": "none", "seed": 1})
    done = begun.materialize("dataset", "base_weights", "weights")
    assert done.success, [str(event.message) for event in done.all_events if event.is_failure]
    assert checked(begun, "weights", "learnt").passed


def test_a_registry_that_says_something_else_was_shown_as_in_order(released: World) -> None:
    (version,) = released.registry.versions("tiny")
    (tag, *_) = (name for name in version.tags if "weights" in name)
    released.registry.set_tag("tiny", version.version, tag, "0" * 64)
    result = checked(released, "registered_version", "registered")
    assert not result.passed and "0000" in str(result.description)


def test_a_staged_server_that_is_gone_was_shown_as_ready(released: World) -> None:
    (name,) = (one.name for one in released.serving.running() if "staging" in one.name)
    released.serving.retire(name)
    assert not checked(released, "staging_deployment", "ready").passed


def test_an_approval_whose_key_was_withdrawn_was_shown_as_standing(released: World) -> None:
    public = released.home.root / "keys" / "local-approver.pub"
    for path in (public, public.with_suffix("")):
        path.unlink()
    result = checked(released, "approval", "stands")
    assert not result.passed and "technical" in str(result.description)


def test_a_gateway_that_is_down_was_shown_as_serving(released: World) -> None:
    released.gateway.down = True
    assert not checked(released, "production", "serves").passed


def test_another_version_s_answer_was_shown_as_this_one_s(candidate: World) -> None:
    assert candidate.materialize("canary", "production").success
    assert checked(candidate, "production", "serves").passed
    candidate.repository.git("revert", "--no-edit", "HEAD")
    result = checked(candidate, "production", "serves", "after the revert")
    assert not result.passed and "version 2 answers" in str(result.description)


def test_a_contradiction_in_the_data_was_shown_as_an_error(released: World) -> None:
    assert checked(released, "dataset", "unanimous").severity is AssetCheckSeverity.WARN


@pytest.mark.parametrize(
    ("asset", "name", "passed"),
    [("monitoring", "objectives", True), ("feedback", "gives_rows", False), ("lineage", "verified", True)],
)
def test_a_run_did_not_show_the_check_that_it_brings(released: World, asset: str, name: str, passed: bool) -> None:
    ask(public_url(released.doors(), "tiny", "production"), "learn: what is 1 and 1?")
    assert _brought(released.materialize(asset)) == {name: passed}


def test_what_does_not_serve_was_shown_as_keeping_its_promises(begun: World) -> None:
    for asset in ("monitoring", "lineage"):
        assert not any(_brought(begun.materialize(asset)).values())


def _brought(done: ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in done.get_asset_check_evaluations()}


def _spoil(world: World, asset: str, change: Callable[[bytes], bytes]) -> None:
    folder: Path = world.step(asset).artifact(asset).path
    path = next(path for path in sorted(folder.iterdir()) if path.suffix in (".jsonl", ".safetensors"))
    folder.chmod(0o700)
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))
