"""The three verdicts of the story, beside the assets that were judged."""

from dagster import AssetsDefinition

from llmops_assets.assets.canary import canary
from llmops_assets.assets.evaluation import evaluation
from llmops_assets.assets.staging_tests import staging_tests
from llmops_assets.checks.check import check_of
from llmops_assets.release import Release
from llmops_core.facts import Fact
from llmops_core.verdict import Finding, Verdict


def _verdict(release: Release, fact: Fact) -> Finding:
    verdict = Verdict[fact.body["verdict"].upper()]
    return Finding("passed", verdict, fact.body.get("reason") or "all findings passed")


def _gate(judged: AssetsDefinition, question: str):
    return check_of(judged, "passed", question, _verdict, blocking=True)


gates = [
    _gate(evaluation, "Is the candidate good enough, and no worse than what serves?"),
    _gate(staging_tests, "Does the staged version answer, answer rightly, and bear load?"),
    _gate(canary, "Is it proven that users are not harmed?"),
]
