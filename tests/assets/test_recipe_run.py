"""What a recipe's run is asked of a door to jobs: its bills are written once, and a spent budget lets none begin."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from llmops_assets.billing import this_month
from llmops_assets.recipe_run import run_recipe
from llmops_assets.step import Step
from llmops_core.cost import RUNNING, SPENT, Asked, Bill, Spent
from llmops_core.errors import EnvironmentLacks, GateRefused
from llmops_core.job_settings import ClusterJobsPlace, GpuPool
from llmops_core.serving_settings import ClusterServingPlace
from llmops_core.settings import Budget
from resources.jobs.jobs import Job
from tests.fakes.platform_doors import World

BILL = Spent("llmops-tiny-1-finetune-a1", 1, "preempted", 3600, 1, "a100", 10.0)


class Asking:
    """A door that only looks at what it is asked, and bills the same attempt twice. `begins`: it has to begin one."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.begins = True
        self.runs: list[Bill] = []

    def run(self, job: Job, context: Any, on_progress: Any) -> None:
        if self.begins:
            job.may_begin()
        self.jobs.append(job)
        job.on_spent(BILL)
        job.on_spent(BILL)

    def running(self) -> list[Bill]:
        return self.runs


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
    door.begins = False
    run_recipe(step, "finetune", {}, begun.root / "work", {})
    assert len(door.jobs) == 2, "what goes on or is done was refused"


def test_a_job_that_was_billed_and_still_goes_spent_the_budget_twice(begun: World) -> None:
    door = Asking()
    step = step_with(begun, door, 15)
    run_recipe(step, "finetune", {}, begun.root / "work", {})
    runs = replace(BILL, outcome=RUNNING, months={this_month(): 3600.0})
    door.runs = [Bill(Asked("tiny", "weights", step.fingerprint), runs)]
    run_recipe(step, "finetune", {}, begun.root / "work", {})
    door.runs = [replace(door.runs[0], spent=replace(runs, job="another"))]
    with pytest.raises(GateRefused, match="by jobs that run now"):
        run_recipe(step, "finetune", {}, begun.root / "work", {})


GPUS = {"a100": GpuPool(per_node=8)}
JOBS = {"kind": "kubernetes", "namespace": "llm", "image": "training:1", "store": {"uri": "s3://bucket/jobs"}}


def asked(begun: World, engine: str, count: int, vllm_image: str | None = "vllm:1") -> dict[str, Job]:
    """The jobs of a model with so many GPUs, on a cluster whose nodes have eight, by recipe."""
    with pytest.MonkeyPatch.context() as patch:  # what a model.yaml says is read once
        return _asked(begun, patch, engine, count, vllm_image)


def _asked(begun: World, patch: pytest.MonkeyPatch, engine: str, count: int, vllm_image: str | None) -> dict[str, Job]:
    door = Asking()
    step = step_with(begun, door, 1000)
    serving = ClusterServingPlace.model_construct(vllm_image=vllm_image)
    jobs = ClusterJobsPlace.model_validate({**JOBS, "gpus": GPUS})
    settings = step.platform.settings.model_copy(update={"jobs": jobs, "serving": serving})
    object.__setattr__(step.platform, "settings", settings)
    spec = step.release.spec
    wanted = {"gpu_count": count, "gpu_type": "a100"}
    patch.setitem(spec.__dict__, "resources", spec.resources.model_copy(update=wanted))
    patch.setitem(spec.__dict__, "serving", spec.serving.model_copy(update={"engine": engine}))
    for recipe in ("finetune", "package", "evaluate"):
        run_recipe(step, recipe, {}, begun.root / recipe, {})
    return {job.recipe: job for job in door.jobs}


def test_a_job_was_given_gpus_that_it_cannot_use(begun: World) -> None:
    on_processors, on_gpus = asked(begun, "llama.cpp", 16), asked(begun, "vllm", 16)
    assert {name: job.needs.gpu_count for name, job in on_processors.items()} == {
        **{"finetune": 16, "package": 0, "evaluate": 0}
    }
    assert {name: job.needs.gpu_count for name, job in on_gpus.items()} == {"finetune": 16, "package": 0, "evaluate": 8}
    assert (on_gpus["evaluate"].needs.gpu_type, on_processors["evaluate"].needs.gpu_type) == ("a100", None)
    assert on_processors["package"].needs.memory_gb == on_processors["finetune"].needs.memory_gb


def test_vllm_was_asked_in_an_image_that_has_none(begun: World) -> None:
    assert {name: job.image for name, job in asked(begun, "vllm", 1).items()} == {
        **{"finetune": None, "package": None, "evaluate": "vllm:1"}
    }
    assert {job.image for job in asked(begun, "llama.cpp", 1).values()} == {None}
    with pytest.raises(EnvironmentLacks, match=r"serving\.vllm_image"):
        asked(begun, "vllm", 1, vllm_image=None)


def test_a_job_that_needs_gpus_did_not_wait_for_them(begun: World) -> None:
    door = Asking()
    step = step_with(begun, door, 1000)
    with pytest.raises(EnvironmentLacks, match="needs 3 GPUs, and jobs may have 0"), waits_with(step, door, 3):
        pass
    with waits_with(step, door, 0):
        pass  # and asks for no pool
    assert door.jobs[0].asked.fingerprint == step.fingerprint and door.jobs[0].asked.stage == "weights"
