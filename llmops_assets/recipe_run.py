"""Running a recipe inside a stage: its config written down, its progress told to the run and to the experiment."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_assets.step import Step
from resources.jobs import Job, Progress


def run_recipe(
    step: Step,
    recipe: str,
    config: Mapping[str, Any],
    folder: Path,
    arguments: Sequence[str],
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Runs `python -m recipes.<recipe>` from the pinned revision's code; returns the folder it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    written, out = folder / f"{recipe}.json", folder / "out"
    written.write_text(json.dumps(config, indent=1), encoding="utf-8")

    def tell(progress: Progress) -> None:
        step.context.log.info(progress_line(recipe, progress))
        on_progress(progress)

    options = ["--config", str(written), *arguments, "--out", str(out)]
    step.platform.jobs.run(Job(recipe, options, step.code(), folder), step.context, tell)
    return out


def progress_line(recipe: str, progress: Progress) -> str:
    """`finetune 120/300, loss 0.31, 24 s left`, whatever figures the recipe reports."""
    known = ("done", "total", "seconds_left")
    figures = [f"{name} {value:.3g}" for name, value in progress.items() if name not in known]
    left = progress.get("seconds_left")
    parts = [f"{recipe} {progress['done']}/{progress['total']}", *figures]
    return ", ".join([*parts, *([f"{left:.0f} s left"] if left is not None else [])])
