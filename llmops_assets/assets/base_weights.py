"""The weights a model starts from: downloaded, copied or pretrained, and from then on known by digest."""

import json
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.dataset import dataset
from llmops_assets.charts import loss_curve
from llmops_assets.partitions import models
from llmops_assets.recipe_run import run_recipe
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.facts import Fact
from llmops_core.training_spec import LocalSource
from resources.models.model_source import fetch_base


@asset(
    partitions_def=models,
    deps=[dataset],
    group_name="training",
    kinds={"huggingface"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def base_weights(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """The base model: fetched from where model.yaml says, or pretrained here from the model's own data."""
    with stage(context, platform.open(), "base_weights") as step:
        return _shown(step, step.done or _made(step))


def _made(step: Step) -> Fact:
    source = step.release.spec.source
    rows = step.evidence()["dataset"]
    with step.scratch() as folder:
        if isinstance(source, LocalSource) and source.pretrain is not None:
            data = step.artifact("dataset").path
            config = source.pretrain.model_dump(mode="json", exclude_none=True)
            run_recipe(step, "pretrain", config, folder, {"data": data})
            also = {"dataset": rows.body["digest"]}
        else:
            fetch_base(
                source,
                folder / "out",
                step.platform.data,
                step.release.revision,
                step.platform.settings.allowed_endpoints,
            )
            also = {}
        artifact = step.platform.artifacts.publish("base_weights", folder / "out")
    return step.record(artifact.digest, {"source": source.type}, also=also)


def _shown(step: Step, fact: Fact) -> Any:
    folder = step.artifact_of(fact).path
    return step.shown(fact, size_bytes=_size(folder), **training_metadata(folder, "pretraining"))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def training_metadata(folder: Path, title: str) -> dict[str, Any]:
    """The rows and the picture that a training report yields; nothing for weights that were not trained here."""
    path = folder / "report.json"
    if not path.is_file():
        return {}
    report = json.loads(path.read_bytes())
    if not report.get("loss_curve"):  # a model that came from elsewhere, with a report of its own
        return {}
    return {
        "loss": MetadataValue.md(loss_curve(report["loss_curve"], f"training loss, {title}")),
        "final_loss": report["final_loss"],
        "parameters": report["parameters"],
        "tokens_per_second": report["tokens_per_second"],
        "training_seconds": report["seconds"],
    }
