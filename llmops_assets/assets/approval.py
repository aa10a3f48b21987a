"""Signatures of people over exactly these digests. Without them nothing gets production traffic."""

from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.staging_tests import staging_tests
from llmops_assets.charts import table
from llmops_assets.operations.approving import approvals_of, approved_subject, findings_of, policy_of, sign_locally
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.errors import GateRefused
from llmops_core.facts import Fact
from llmops_core.fingerprint import digest_of
from llmops_core.verdict import Verdict, overall, reasons


@asset(
    partitions_def=models,
    deps=[staging_tests],
    group_name="release",
    kinds={"openssh"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def approval(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """The signed approvals this environment demands, bound to weights, evaluation, data, tests and revision."""
    with stage(context, platform.open(), "approval") as step:
        fact = _granted(step)
        signed = [[a["role"], a["identity"], a["at"]] for a in fact.body["approvals"]]
        return step.shown(fact, approvals=MetadataValue.md(table(["role", "signed by", "at"], signed)))


def _granted(step: Step) -> Fact:
    """Judged anew in every run: a refusal or a withdrawn key counts even after an earlier yes."""
    step.evidence()
    release, platform = step.release, step.platform
    subject = approved_subject(release)
    if release.inputs.production.approvals.sign_locally:
        sign_locally(platform, subject, policy_of(platform.settings, release.inputs.production).roles)
        step.context.log.info("signed with the key this platform made for itself: nobody else approved")
    found = approvals_of(platform, release.model)
    findings = findings_of(release, subject, found)
    if overall(findings) is not Verdict.PASSED:
        raise GateRefused("approval", reasons(findings))
    counted = [
        {"role": a.statement.role, "identity": a.identity, "at": a.statement.at.isoformat(), "signature": a.signature}
        for a in found
        if not a.statement.unbound(subject)
    ]
    body = {"approvals": counted, "subject": subject.model_dump(mode="json")}
    done = step.done
    digest = digest_of(body)
    return done if done is not None and done.body["digest"] == digest else step.record(digest, body)
