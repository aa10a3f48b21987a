"""A training run in the registry: opened before the first step, fed while it runs, closed with how it ended."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmops_assets.step import Step
from resources.jobs.jobs import Progress
from resources.registry.model_registry import FINGERPRINT_TAG, ModelRegistry

NOT_FIGURES = ("done", "total", "seconds_left")


@dataclass(frozen=True)
class Experiment:
    """One run. `log_progress` is called from the thread that hears the job."""

    registry: ModelRegistry
    id: str

    def log_progress(self, progress: Progress) -> None:
        figures = {name: value for name, value in progress.items() if name not in NOT_FIGURES}
        self.registry.log(self.id, {f"live.{k}": [(progress["done"], v)] for k, v in figures.items()}, {}, {})

    def log_report(self, path: Path) -> None:
        """The whole curve and the figures of a training report."""
        report = json.loads(path.read_bytes())
        curve = [(int(step), float(loss)) for step, loss in report["loss_curve"]]
        figures = {
            k: [(0, float(v))] for k, v in report.items() if isinstance(v, int | float) and not isinstance(v, bool)
        }
        self.registry.log(self.id, {"loss": curve, **figures} if curve else figures, {}, {"training.json": path})


@contextmanager
def experiment(step: Step) -> Iterator[Experiment]:
    """The run of this stage's fingerprint; the same one when a killed stage is repeated."""
    registry, release = step.platform.registry, step.release
    name = f"{release.spec.version} at {release.revision[:12]}"
    tags = {
        FINGERPRINT_TAG: step.fingerprint,
        "llmops.revision": release.revision,
        "llmops.dagster_run": step.context.run.run_id,
    }
    run_id = registry.open_run(release.model, name, tags)
    try:
        registry.log(run_id, {}, _parameters(step), {})
        yield Experiment(registry, run_id)
    except BaseException:
        registry.close_run(run_id, "FAILED")
        raise
    registry.close_run(run_id, "FINISHED")


def _parameters(step: Step) -> dict[str, object]:
    """The flat training section of model.yaml, as the run's parameters."""
    flat: dict[str, object] = {}
    for name, value in step.release.spec.training.model_dump(mode="json").items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat
