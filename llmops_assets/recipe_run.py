"""Running a recipe inside a stage: what it is given, what it needs, and where its progress is told."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmops_assets.step import Step
from llmops_core.job_manifest import Needs
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

    Each folder of `inputs` is given to it by its name: {"data": folder} becomes --data FOLDER.
    """
    asked = Asked(step.release.model, step.name, step.fingerprint)
    needs = _needs(step, recipe)
    job = Job(recipe, config, inputs, step.code(), folder, asked, needs)
    step.platform.jobs.run(job, step.context, on_progress)
    return job.out


def _needs(step: Step, recipe: str) -> Needs:
    wanted = step.release.spec.resources
    if recipe in WITHOUT_GPU:
        return Needs(wanted.memory_gb, wanted.cpu)
    return Needs(wanted.memory_gb, wanted.cpu, wanted.gpu_count, wanted.gpu_type)
