"""What a recipe's run is asked of a door to jobs: its bills are written once, and a spent budget lets none begin."""

from contextlib import AbstractContextManager
from typing import Any

import pytest

from llmops_assets.recipe_run import run_recipe
from llmops_assets.step import Step
from llmops_core.cost import SPENT, Spent
from llmops_core.errors import EnvironmentLacks, GateRefused
from llmops_core.settings import Budget
from resources.jobs import Job
from tests.fakes.platform_doors import World

BILL = Spent("llmops-tiny-1-finetune-a1", 1, "preempted", 3600, 1, "a100", 10.0)


class Asking:
    """A door that only looks at what it is asked, and bills the same attempt twice."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def run(self, job: Job, context: Any, on_progress: Any) -> None:
        self.jobs.append(job)
        job.on_spent(BILL)
        job.on_spent(BILL)


def step_with(world: World, door: Asking, per_month: float) -> Step:
    step = world.step("weights")
    step.platform.__dict__["jobs"] = door
    settings = step.platform.settings.model_copy(update={"budget": Budget(per_month=per_month)})
    object.__setattr__(step.platform, "settings", settings)
    return step


def waits_with(step: Step, door: Asking, gpu_count: int) -> AbstractContextManager[None]:
    """What a job of a model with so many GPUs enters while it runs."""
    step.release.spec.__dict__["resources"] = step.release.spec.resources.model_copy(update={"gpu_count": gpu_count})
    run_recipe(step, "finetune", {}, step.platform.home.root / "work", {})
    return door.jobs[-1].admitted(False)


def test_an_attempt_was_billed_twice_or_a_spent_budget_let_a_job_begin(begun: World) -> None:
    door = Asking()
    step = step_with(begun, door, 10)
    run_recipe(step, "finetune", {}, begun.root / "work", {})
    (fact,) = (each for each in step.platform.ledger.facts() if each.kind == SPENT)
    assert fact.body["cost"] == 10 and fact.fingerprint == step.fingerprint and fact.subject == "weights"
    with pytest.raises(GateRefused, match="budget"):
        run_recipe(step, "finetune", {}, begun.root / "work", {})
    assert len(door.jobs) == 1


def test_a_job_that_converts_files_was_given_a_gpu(begun: World) -> None:
    door = Asking()
    step = step_with(begun, door, 1000)
    for recipe in ("package", "evaluate"):
        run_recipe(step, recipe, {}, begun.root / recipe, {})
    wanted = step.release.spec.resources
    packing, asking = (job.needs for job in door.jobs)
    assert packing.gpu_count == 0 and packing.memory_gb == wanted.memory_gb
    assert (asking.gpu_count, asking.gpu_type) == (wanted.gpu_count, wanted.gpu_type)
    with pytest.raises(EnvironmentLacks, match="needs 3 GPUs, and jobs may have 0"), waits_with(step, door, 3):
        pass
    with waits_with(step, door, 0):
        pass  # and asks for no pool
    assert door.jobs[0].asked.fingerprint == step.fingerprint and door.jobs[0].asked.stage == "weights"
