"""Is what an asset left behind still there, and still what it was? Asked of the real thing, not of the ledger alone.

None of them ends a run: a later stage that rests on the same thing verifies it again and refuses by itself.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import AssetCheckSeverity

from llmops_assets.assets.approval import approval
from llmops_assets.assets.base_weights import base_weights
from llmops_assets.assets.dataset import dataset
from llmops_assets.assets.production import production
from llmops_assets.assets.registered_version import registered_version
from llmops_assets.assets.staging_deployment import staging_deployment
from llmops_assets.assets.weights import weights
from llmops_assets.checks.check import check_of
from llmops_assets.deploying import public_url
from llmops_assets.operations.approving import approvals_of, approved_subject, findings_of
from llmops_assets.operations.endpoint import ask
from llmops_assets.operations.identity import platform_signers
from llmops_assets.release import Release
from llmops_core.dataset import judge_conflicts
from llmops_core.facts import Fact
from llmops_core.registration import VERSION_NAMESPACE, VersionFacts
from llmops_core.training_outcome import judge_training
from llmops_core.training_spec import LocalSource
from llmops_core.verdict import Finding, Verdict, overall, reasons


def _artifact(release: Release, fact: Fact) -> Path:
    """Raises IntegrityError when a byte of it is missing or not what it was."""
    return release.platform.artifacts.verified(fact.subject, fact.body["digest"]).path


def _report(release: Release, fact: Fact) -> dict[str, Any] | None:
    path = _artifact(release, fact) / "report.json"
    return json.loads(path.read_bytes()) if path.is_file() else None


def _intact(release: Release, fact: Fact) -> Finding:
    _artifact(release, fact)
    return Finding("intact", Verdict.PASSED, f"every byte hashes to {fact.body['digest'][:12]}")


def _unanimous(release: Release, fact: Fact) -> Finding:
    return judge_conflicts(_report(release, fact) or {})


def _pretrained(release: Release, fact: Fact) -> Finding:
    source = release.spec.source
    return _learnt(release, fact, trained=isinstance(source, LocalSource) and source.pretrain is not None)


def _fine_tuned(release: Release, fact: Fact) -> Finding:
    return _learnt(release, fact, trained=release.spec.training.method != "none")


def _learnt(release: Release, fact: Fact, *, trained: bool) -> Finding:
    if not trained:
        return Finding("learnt", Verdict.PASSED, "taken over as it was; nothing was trained here")
    return judge_training(_report(release, fact) or {})


def _registered(release: Release, fact: Fact) -> Finding:
    facts, version = VersionFacts.model_validate(fact.body["facts"]), int(fact.body["version"])
    release.platform.registry.verify(version, facts)
    signers = platform_signers(release.platform)
    release.platform.signatures.verify(facts.statement(), fact.body["signature"], signers, VERSION_NAMESPACE)
    return Finding("registered", Verdict.PASSED, f"version {version} says what was signed")


def _ready(release: Release, fact: Fact) -> Finding:
    seen = release.platform.serving.health(fact.body["deployment"])
    return Finding("ready", seen.verdict, seen.reason)


def _stands(release: Release, fact: Fact) -> Finding:
    findings = findings_of(release, approved_subject(release), approvals_of(release.platform, release.model))
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return Finding(
        "stands", overall(findings), reasons(findings) or f"every role that is demanded said yes, as of {now}"
    )


def _serves(release: Release, fact: Fact) -> Finding:
    answer = ask(public_url(release.platform, release.model, "production"), "Are you there?")
    same = (answer.version, answer.weights_digest) == (fact.body["version"], fact.body["weights_digest"])
    seen = f"version {answer.version} answers, weights {answer.weights_digest[:12]}"
    expected = f"{seen}; this revision's is version {fact.body['version']}, {fact.body['weights_digest'][:12]}"
    return Finding("serves", Verdict.PASSED, seen) if same else Finding("serves", Verdict.FAILED, expected)


evidence = [
    check_of(dataset, "intact", "Are the rows still those that were checked?", _intact),
    check_of(dataset, "unanimous", "Has every question one answer?", _unanimous, severity=AssetCheckSeverity.WARN),
    check_of(base_weights, "intact", "Are the weights still those that were made?", _intact),
    check_of(base_weights, "learnt", "Did pretraining lower the loss?", _pretrained),
    check_of(weights, "intact", "Are the weights still those that were made?", _intact),
    check_of(weights, "learnt", "Did fine-tuning lower the loss?", _fine_tuned),
    check_of(registered_version, "registered", "Does the registry say what was signed?", _registered),
    check_of(staging_deployment, "ready", "Does the staged server say that it can answer?", _ready),
    check_of(approval, "stands", "Do the signatures still suffice, judged anew?", _stands),
    check_of(production, "serves", "Are users answered by this version?", _serves),
]
