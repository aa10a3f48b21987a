"""The rows at a revision: fetched by hash, validated, deduplicated, scanned for personal data."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.charts import table
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.dataset import CurationPolicy, curate
from llmops_core.errors import InputError, Problem
from llmops_core.facts import Fact
from llmops_core.model_spec import ModelSpec
from llmops_core.training_spec import LocalSource


@asset(partitions_def=models, group_name="data", kinds={"dvc"}, owners=["team:llmops"], retry_policy=ONCE_MORE)
def dataset(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """The rows this model is trained and judged with: exactly those the pinned commit names, checked line by line."""
    with stage(context, platform.open(), "dataset") as step:
        fact = step.done or _curated(step)
        _refuse_missing(step.release.spec, step.report(fact)["files"])
        return _shown(step, fact)


def _curated(step: Step) -> Fact:
    spec, revision = step.release.spec, step.release.revision
    with step.scratch() as folder:
        raw = _fetched(step, folder / "raw")
        _refuse_missing(spec, raw)
        report, rows = curate(raw, CurationPolicy(spec.learnt_from, spec.data.pii))
        step.context.log.info(f"{report.rows} rows of {spec.data.path} at {revision[:12]} are in order")
        artifact = step.platform.artifacts.publish("dataset", _written(folder / "clean", rows, report.as_dict()))
    return step.record(artifact.digest, {"path": spec.data.path, "files": dict(step.release.inputs.data)})


def _refuse_missing(spec: ModelSpec, there: Collection[str]) -> None:
    """Raises InputError for files that model.yaml names and the data lacks, before anything is trained."""
    named = {name: "training.train" for name in spec.training.files}
    named |= {suite.data: f"evaluation.suites[{index}].data" for index, suite in enumerate(spec.evaluation.suites)}
    if isinstance(spec.source, LocalSource) and spec.source.pretrain is not None:
        named[spec.source.pretrain.data] = "source.pretrain.data"
    file, expected = f"models/{spec.name}/model.yaml", f"one of: {', '.join(sorted(there))}"
    message = f"DVC tracks no such file below {spec.data.path}; name one that is there, or add it and commit"
    if lost := [Problem(file, field, name, expected, message) for name, field in named.items() if name not in there]:
        raise InputError(*lost)


def _fetched(step: Step, folder: Path) -> dict[str, list[bytes]]:
    """{file name below data.path: its lines}, of every output that DVC tracks there."""
    raw: dict[str, list[bytes]] = {}
    for number, output in enumerate(sorted(step.release.inputs.data)):
        path = f"{step.release.spec.data.path}/{output}".rstrip("/")
        fetched = step.platform.data.fetch(step.release.revision, path, folder / str(number))
        for file in fetched.files:
            name = f"{output}/{file.path}".lstrip("/") if fetched.pointer.is_dir else output
            if name.endswith(".jsonl"):
                raw[name] = (fetched.folder / file.path).read_bytes().splitlines()
    return raw


def _written(folder: Path, rows: dict[str, list[dict[str, Any]]], report: dict[str, Any]) -> Path:
    folder.mkdir()
    for name, kept in rows.items():
        lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) for row in kept)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True), encoding="utf-8")
    return folder


def _shown(step: Step, fact: Fact) -> Any:
    report = step.report(fact)
    files = [[name, f["rows_kept"], f["duplicates_dropped"], f["conflicts"]] for name, f in report["files"].items()]
    sample = [[row.get("prompt"), row.get("response")] for row in report["sample"]]
    return step.shown(
        fact,
        rows=report["rows"],
        files=MetadataValue.md(table(["file", "rows", "duplicates dropped", "contradictions"], files)),
        sample=MetadataValue.md(table(["prompt", "response"], sample)),
        personal_data=MetadataValue.json(report["personal_data"]),
    )
