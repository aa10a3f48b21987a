"""Running a recipe inside a stage: what it is given, what it needs and costs, and where its progress is told."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_assets.step import Step
from llmops_core.cost import SPENT, Spent, over_budget
from llmops_core.errors import GateRefused
from llmops_core.job_manifest import Needs
from resources.gpu_pool import gpus_held
from resources.jobs import Asked, Job, Progress

WITHOUT_GPU = ("package",)  # it converts files


def run_recipe(
    step: Step,
    recipe: str,
    config: Mapping[str, Any],
    folder: Path,
    inputs: Mapping[str, Path],
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Runs `python -m recipes.<recipe>` from the pinned revision's code; returns the folder it wrote.

    Each folder of `inputs` is given to it by its name: {"data": folder} becomes --data FOLDER. Raises GateRefused when
    the month's budget is spent. A job that needs GPUs waits until the environment has them free.
    """

    def write_down(spent: Spent) -> None:
        step.platform.ledger.append(
            SPENT,
            model=step.release.model,
            subject=step.name,
            fingerprint=step.fingerprint,
            body=spent.as_body(),
            once=f"spent:{spent.job}",
        )

    _refuse_over_budget(step)
    asked = Asked(step.release.model, step.name, step.fingerprint)
    needs, capacity = _needs(step, recipe), step.platform.settings.capacity

    def admitted(goes: bool) -> AbstractContextManager[None]:
        return gpus_held(step.context, step.name, needs.gpu_count, capacity.gpu_count, goes)

    job = Job(recipe, config, inputs, step.code(), folder, asked, needs, on_spent=write_down, admitted=admitted)
    step.platform.jobs.run(job, step.context, on_progress)
    return job.out


def _needs(step: Step, recipe: str) -> Needs:
    wanted = step.release.spec.resources
    if recipe in WITHOUT_GPU:
        return Needs(wanted.memory_gb, wanted.cpu)
    return Needs(wanted.memory_gb, wanted.cpu, wanted.gpu_count, wanted.gpu_type)


def _refuse_over_budget(step: Step) -> None:
    budget = step.platform.settings.budget
    if budget is None:
        return
    why = over_budget(step.platform.ledger.facts(), f"{datetime.now(UTC):%Y-%m}", budget.per_month)
    if why:
        raise GateRefused("budget", why)
