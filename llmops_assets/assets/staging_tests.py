"""The staged version under test: health, readiness, right answers, and load at several levels of concurrency."""

import json
from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.staging_deployment import staging_deployment
from llmops_assets.charts import latency_histogram, table
from llmops_assets.deploying import public_url
from llmops_assets.operations.endpoint import ask, status_of
from llmops_assets.partitions import models
from llmops_assets.questions import held_out
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.facts import Fact
from llmops_core.staging import LoadLevel, judge_identity, judge_inference, judge_load, judge_probe
from llmops_core.verdict import Finding, overall, reasons
from resources.traffic.load import TRAFFIC_HEADER, run_load

QUESTIONS = 50
LABEL = {TRAFFIC_HEADER: "staging-test"}


@asset(
    partitions_def=models,
    deps=[staging_deployment],
    group_name="staging",
    kinds={"http"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def staging_tests(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """What the candidate did when it was asked, probed and loaded through the gateway's staging route."""
    with stage(context, platform.open(), "staging_tests") as step:
        fact = step.done if step.done is not None and step.done.body["verdict"] == "passed" else _tested(step)
        report = step.report(fact)
        findings = [[f["name"], f["verdict"], f["reason"]] for f in report["findings"]]
        limit = step.release.inputs.staging.staging_tests.max_p95_seconds
        latencies = [seconds for level in report["load"] for seconds in level["latencies_seconds"]]
        return step.shown(
            fact,
            findings=MetadataValue.md(table(["test", "verdict", "seen"], findings)),
            latency=MetadataValue.md(latency_histogram(latencies, limit, "latency under load")),
        )


def _tested(step: Step) -> Fact:
    """Every test runs, so that a person sees all that is wrong at once."""
    deployed = step.evidence()["registered_version"].body
    url = public_url(step.platform, step.release.model, "staging")
    identity = (deployed["version"], step.artifact("weights").digest)
    findings = [step.platform.serving.health(step.evidence()["staging_deployment"].body["deployment"])]
    findings.append(judge_probe("ready", status_of(f"{url}/ready")))
    asked = held_out(step)
    evaluated = _evaluated_answers(step)
    answers = [ask(url, one.question) for one in asked[:QUESTIONS]]
    same = sum(answer.text == evaluated.get(one.question) for answer, one in zip(answers, asked, strict=False))
    seen = {(answer.version, answer.weights_digest) for answer in answers}
    findings += [judge_identity(identity, found) for found in sorted(seen)]
    findings.append(judge_inference(same, len(answers)))
    load, judged = _loaded(step, url, [one.body for one in asked])
    return _recorded(step, [*findings, *judged], load)


def _evaluated_answers(step: Step) -> dict[str, str]:
    """{question: answer} that the evaluation recorded of this artefact."""
    path = step.artifact("evaluation").path / "candidate" / "predictions.jsonl"
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["prompt"]: str(line["answer"]).strip() for line in lines}


def _loaded(step: Step, url: str, bodies: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """One level of concurrency after another, each with the same number of requests."""
    policy = step.release.inputs.staging.staging_tests
    levels: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for concurrency in policy.concurrency:
        result = run_load(
            f"{url}/v1/chat/completions", bodies, concurrency, headers=LABEL, total_requests=policy.requests
        )
        summary = result.summary()
        finding = judge_load(LoadLevel(concurrency, summary.total, summary.ok, summary.p95_seconds), policy)
        step.context.log.info(f"load at concurrency {concurrency}: {finding.reason}")
        latencies = [round(sample.latency_seconds, 5) for sample in result.samples if sample.ok]
        levels.append({"concurrency": concurrency, **summary.as_dict(), "latencies_seconds": latencies})
        findings.append(finding)
    return levels, findings


def _recorded(step: Step, findings: list[Finding], load: list[dict[str, Any]]) -> Fact:
    verdict = overall(findings).label
    report = {"verdict": verdict, "findings": [finding.as_dict() for finding in findings], "load": load}
    with step.scratch() as folder:
        (folder / "out").mkdir()
        (folder / "out" / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        artifact = step.platform.artifacts.publish("staging_tests", folder / "out")
    return step.record(artifact.digest, {"reason": reasons(findings)}, verdict=verdict)
