"""The packaged candidate, asked every held-out question, and judged beside the model in production."""

import json
import shutil
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.dataset import dataset
from llmops_assets.assets.weights import weights
from llmops_assets.charts import evaluation_bars, table
from llmops_assets.deploying import production_weights
from llmops_assets.gpus import server_gpus
from llmops_assets.partitions import models
from llmops_assets.recipe_run import EVALUATION, run_recipe
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.evaluation import EvaluationPolicy, Evidence, chart_rows, comparison_table, judge
from llmops_core.evaluation_report import marked
from llmops_core.facts import Fact
from llmops_core.promotion import still_judged
from llmops_core.verdict import overall, reasons

# How good an answer is does not depend on how fast it came; staging tests judge that. With the model's own limit, a
# slow moment of this machine would make answers wrong, and each change of the limit would ask every question anew.
ANSWER_LIMIT_SECONDS = 120.0


@asset(
    partitions_def=models,
    deps=[dataset, weights],
    group_name="training",
    kinds={"python"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def evaluation(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """The candidate's answers with confidence intervals, paired with those of the production model on the same rows."""
    with stage(context, platform.open(), "evaluation") as step:
        fact = _evaluated(step)
        report = step.report(fact)
        header = list(report["table"][0])
        step.context.log.info(report["reason"] or "every suite passed")
        return step.shown(
            fact,
            suites=MetadataValue.md(table(header, [[row[name] for name in header] for row in report["table"]])),
            picture=MetadataValue.md(evaluation_bars(report["chart"], "candidate, minimum and production")),
            reason=report["reason"] or "every suite passed",
        )


def _evaluated(step: Step) -> Fact:
    """Judged against what serves now: an evaluation beside an older production model is made anew."""
    evidence = step.evidence()
    baseline = production_weights(step.platform, step.release.model)
    done = step.done
    own = evidence["weights"].body["digest"]
    if done is not None and still_judged(done, own, baseline):
        return done
    data = step.artifact("dataset").path
    with step.scratch() as folder:
        out = folder / "evaluation"
        out.mkdir()
        candidate = _ask(step, step.artifact("weights").path, data, folder / "candidate", out / "candidate")
        production = None
        if baseline is not None and baseline != own:
            kept = step.artifact_at("weights", baseline).path
            production = _ask(step, kept, data, folder / "production", out / "production")
        report = _report(step, candidate, production)
        (out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        artifact = step.platform.artifacts.publish("evaluation", out)
    body = {"baseline": baseline, "reason": report["reason"], "suites": report["suites"]}
    also = {"dataset": evidence["dataset"].body["digest"]}
    return step.record(artifact.digest, body, verdict=report["verdict"], also=also)


def _ask(step: Step, weights_folder: Path, data: Path, work: Path, out: Path) -> Evidence:
    """Runs the evaluation program and keeps what it wrote in `out`."""
    spec = step.release.spec
    serving = {**spec.serving.model_dump(mode="json"), "timeout_seconds": ANSWER_LIMIT_SECONDS}
    if gpus := server_gpus(step.release):
        serving["gpus"] = gpus
    config = {**spec.evaluation.model_dump(mode="json"), "serving": serving}
    made = run_recipe(step, EVALUATION, config, work, {"data": data, "weights": weights_folder})
    shutil.copytree(made, out)
    asked = {suite.name: _rows(data / suite.data) for suite in spec.evaluation.suites}
    predictions = marked(_objects(out / "predictions.jsonl"), asked)
    return Evidence.read(json.loads((out / "report.json").read_bytes()), predictions)


def _rows(file: Path) -> list[tuple[str, str]]:
    return [(row["prompt"], row["response"]) for row in _objects(file)]


def _objects(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def _report(step: Step, candidate: Evidence, production: Evidence | None) -> dict[str, Any]:
    spec = step.release.spec.evaluation
    minimums = {suite.name: suite.minimum for suite in spec.suites}
    policy = EvaluationPolicy(minimums=minimums, max_regression=spec.max_regression)
    findings = judge(candidate, production, policy)
    return {
        "verdict": overall(findings).label,
        "reason": reasons(findings),
        "findings": [finding.as_dict() for finding in findings],
        "table": comparison_table(candidate, production, policy),
        "chart": chart_rows(candidate, production, policy),
        "suites": {name: suite.correct / suite.total for name, suite in candidate.suites.items()},
    }
