"""The model's own weights: fine-tuned, merged, and packaged for the engine that will serve them."""

import shutil
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.base_weights import base_weights, training_metadata
from llmops_assets.assets.dataset import dataset
from llmops_assets.experiment import experiment
from llmops_assets.partitions import models
from llmops_assets.recipe_run import run_recipe
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.facts import Fact


@asset(
    partitions_def=models,
    deps=[dataset, base_weights],
    group_name="training",
    kinds={"pytorch", "huggingface"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def weights(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """Fine-tuned weights as safetensors, beside the packaged file that serves; both under one digest."""
    with stage(context, platform.open(), "weights") as step:
        return _shown(step, step.done or _trained(step))


def _trained(step: Step) -> Fact:
    spec = step.release.spec
    evidence = step.evidence()
    data, base = step.artifact("dataset").path, step.artifact("base_weights").path
    with step.scratch() as folder, experiment(step) as run:
        inputs = {"data": data, "base": base}
        config = spec.training.model_dump(mode="json", exclude_none=True)
        out = run_recipe(step, "finetune", config, folder, inputs, run.log_progress)
        if spec.serving.engine == "llama.cpp":
            _package(step, out, folder / "package")
        run.log_report(out / "report.json")
        artifact = step.platform.artifacts.publish("weights", out)
    also = {"dataset": evidence["dataset"].body["digest"]}
    body = {"method": spec.training.method, "experiment_run": run.id}
    return step.record(artifact.digest, body, also=also)


def _package(step: Step, out: Path, work: Path) -> None:
    """Adds the file that llama.cpp serves, checked against the weights it was made from."""
    config = {"quantization": step.release.spec.serving.quantization}
    for path in run_recipe(step, "package", config, work, {"weights": out}).iterdir():
        shutil.move(path, out / path.name)


def _shown(step: Step, fact: Fact) -> Any:
    folder = step.artifact_of(fact).path
    return step.shown(
        fact,
        mlflow=MetadataValue.url(step.platform.registry.run_link(fact.body["experiment_run"])),
        files=MetadataValue.json({path.name: path.stat().st_size for path in sorted(folder.iterdir())}),
        **training_metadata(folder, "fine-tuning"),
    )
