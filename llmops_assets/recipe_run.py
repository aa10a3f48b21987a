"""Running a recipe inside a stage: what it is given, what it needs and costs, and where its progress is told."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from llmops_assets.billing import refuse_over_budget, write_down
from llmops_assets.gpus import pools_of, server_gpus
from llmops_assets.step import Step
from llmops_core.cost import Asked, Bill, Spent
from llmops_core.errors import EnvironmentLacks
from llmops_core.gpu_needs import spread
from llmops_core.job_manifest import Needs
from llmops_core.job_settings import ClusterJobsPlace
from llmops_core.serving_settings import ClusterServingPlace
from resources.jobs.gpu_pool import gpus_held
from resources.jobs.jobs import Job, Progress

WITHOUT_GPU = ("package",)  # it converts files
EVALUATION = "evaluate"


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
    the month's budget is spent when a job is about to begin, or an attempt after the first; what goes on or is done
    already is not refused. A job that needs GPUs waits until the environment has them free.
    """

    def billed(spent: Spent) -> None:
        write_down(step.platform, Bill(asked, spent))

    asked = Asked(step.release.model, step.name, step.fingerprint)
    needs, capacity = _needs(step, recipe), step.platform.settings.capacity
    held = spread(needs.gpu_count, needs.gpu_type, pools_of(step.release)).total

    def admitted(goes: bool) -> AbstractContextManager[None]:
        return gpus_held(step.context, step.name, held, capacity.gpu_count, goes)

    job = Job(
        recipe, config, inputs, step.code(), folder, asked, needs,
        image=_image(step, recipe), on_spent=billed,
        may_begin=lambda: refuse_over_budget(step.platform), admitted=admitted,
    )  # fmt: skip
    step.platform.jobs.run(job, step.context, on_progress)
    return job.out


def _needs(step: Step, recipe: str) -> Needs:
    """The evaluation asks a server that it starts itself, so it needs what that needs."""
    wanted, count = step.release.spec.resources, step.release.spec.resources.gpu_count
    if recipe in WITHOUT_GPU:
        count = 0
    elif recipe == EVALUATION:
        count = server_gpus(step.release)
    return Needs(wanted.memory_gb, wanted.cpu, count, wanted.gpu_type if count else None)


def _image(step: Step, recipe: str) -> str | None:
    """On a cluster vLLM is in an image of its own; what serves a model there also evaluates it."""
    settings = step.platform.settings
    if recipe != EVALUATION or step.release.spec.serving.engine != "vllm":
        return None
    if not isinstance(settings.jobs, ClusterJobsPlace):
        return None
    image = settings.serving.vllm_image if isinstance(settings.serving, ClusterServingPlace) else None
    if image is None:
        raise EnvironmentLacks(
            f"{step.release.model} is evaluated by vLLM, and serving.vllm_image names no image of it"
        )
    return image
