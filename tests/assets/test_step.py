"""One stage of a run: what goes wrong on purpose is written down, what may pass by itself is tried again."""

from pathlib import Path

import pytest
from dagster import Failure

from llmops_assets.step import stage
from llmops_core.errors import EnvironmentLacks, GateRefused, InputError, IntegrityError, Problem, TransientError
from llmops_core.status import fold
from tests.fakes.platform_doors import Turn, World

BROKEN = [
    (GateRefused("approval", "waiting for technical"), "approval", "waiting for technical"),
    (InputError(Problem("a.yaml", "b", "c", "d", "mend it")), "weights", "mend it"),
    (IntegrityError("other bytes"), "weights", "other bytes"),
    (EnvironmentLacks("no GPU"), "weights", "no GPU"),
]


def _fails(world: World, error: Exception, **turn: object) -> Failure:
    with pytest.raises(Failure) as caught, stage(Turn(**turn), world.doors(), "weights"):  # type: ignore[arg-type]
        raise error
    return caught.value


@pytest.mark.parametrize(("error", "subject", "reason"), BROKEN)
def test_a_refusal_was_not_written_down(begun: World, error: Exception, subject: str, reason: str) -> None:
    failure = _fails(begun, error)
    assert not failure.allow_retries and reason in str(failure.description)
    assert reason in begun.reasons(subject)[0]
    (blocked,) = fold("tiny", begun.doors().ledger.facts()).blocked
    assert blocked.stage == subject and reason in blocked.reason


def test_what_may_pass_by_itself_was_not_tried_again(begun: World) -> None:
    assert _fails(begun, TransientError("the network is down")).allow_retries
    assert begun.reasons("weights") == []


def test_the_last_try_of_a_passing_trouble_was_not_written_down(begun: World) -> None:
    assert _fails(begun, TransientError("the network is down"), retry_number=1)
    assert begun.reasons("weights") == ["the network is down"]


def test_a_defect_of_the_platform_passed_for_a_refusal(begun: World) -> None:
    with pytest.raises(ZeroDivisionError), stage(Turn(), begun.doors(), "weights"):  # type: ignore[arg-type]
        raise ZeroDivisionError
    assert begun.reasons("weights") == []


def test_a_trouble_that_passed_failed_the_run(begun: World) -> None:
    begun.jobs.fails["pretrain"] = [TransientError("pretrain was ended by signal SIGKILL")]
    assert begun.materialize("dataset", "base_weights").success
    assert begun.jobs.ran == ["pretrain", "pretrain"] and begun.reasons("base_weights") == []


def test_a_trouble_that_stays_was_tried_for_ever_or_not_told(begun: World) -> None:
    begun.jobs.fails["pretrain"] = [TransientError("pretrain was ended by signal SIGKILL")] * 9
    assert not begun.materialize("dataset", "base_weights").success
    assert begun.jobs.ran == ["pretrain", "pretrain"]
    assert begun.reasons("base_weights") == ["pretrain was ended by signal SIGKILL"]


def test_a_model_that_needs_a_gpu_was_tried(begun: World) -> None:
    resources = {"gpu_count": 1, "memory_gb": 8, "cpu": 1}
    begun.repository.commit_model(resources=resources)
    assert not begun.materialize("dataset").success
    assert begun.reasons("environment")[0].startswith("local cannot run it: it needs 1 GPU(s)")
    assert begun.jobs.ran == []


def test_scratch_was_left_behind(begun: World) -> None:
    step = begun.step("weights")
    left: list[Path] = []
    with pytest.raises(OSError, match="disk"), step.scratch() as folder:
        (folder / "half").write_text("written")
        left.append(folder)
        raise OSError("disk")
    assert not left[0].exists()


def test_scratch_of_a_killed_run_was_taken_for_ours(begun: World) -> None:
    step = begun.step("weights")
    with step.scratch() as folder:
        place = folder
    place.mkdir()
    (place / "stale").write_text("from a killed run")
    with step.scratch() as folder:
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("stage_name", ["weights", "evaluation", "dataset", "base_weights"])
def test_a_changed_byte_did_not_stop_the_stages_that_rest_on_it(candidate: World, stage_name: str) -> None:
    assert candidate.materialize("canary").success
    artifact = candidate.step(stage_name).artifact(stage_name)
    _change_a_byte(next(path for path in artifact.path.iterdir() if path.name != "manifest.json"))
    assert not candidate.materialize("production").success
    assert "is not what was made" in candidate.reasons("production")[0]
    assert candidate.registry.alias("tiny", "production") == 1


def test_a_vanished_artefact_did_not_stop_a_stage(released: World) -> None:
    with pytest.raises(IntegrityError):
        released.step("weights").artifact_at("weights", "0" * 64)


def test_a_stage_ran_without_the_ones_before_it(begun: World) -> None:
    assert not begun.materialize("weights").success
    assert begun.reasons("weights") == ["there is no current dataset for this revision; materialize it first"]
    assert begun.jobs.ran == []


def test_a_reused_result_looked_new(released: World) -> None:
    step = released.step("weights", run_id="a later run")
    assert step.done is not None
    assert step.shown(step.done).metadata["reused"] is True  # type: ignore[index]


def _change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
