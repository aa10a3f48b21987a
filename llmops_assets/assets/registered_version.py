"""A version in the registry: named only after its evaluation passed, and signed with what it is."""

from typing import Any

from dagster import AssetExecutionContext, MetadataValue, asset

from llmops_assets.assets.evaluation import evaluation
from llmops_assets.card import model_card
from llmops_assets.operations.identity import platform_signers, sign_version
from llmops_assets.partitions import models
from llmops_assets.resource import PlatformResource
from llmops_assets.step import ONCE_MORE, Step, stage
from llmops_core.errors import IntegrityError
from llmops_core.facts import Fact
from llmops_core.fingerprint import digest_of
from llmops_core.registration import SIGNATURE_TAG, VERSION_NAMESPACE, VersionFacts
from resources.registry.registry import RegistrationRequest


@asset(
    partitions_def=models,
    deps=[evaluation],
    group_name="registry",
    kinds={"mlflow"},
    owners=["team:llmops"],
    retry_policy=ONCE_MORE,
)
def registered_version(context: AssetExecutionContext, platform: PlatformResource) -> Any:
    """A version in MLflow, linked to commit, data and evaluation; refused unless the evaluation passed."""
    with stage(context, platform.open(), "registered_version") as step:
        fact = step.done or _registered(step)
        version = int(fact.body["version"])
        return step.shown(
            fact,
            version=version,
            mlflow=MetadataValue.url(step.platform.registry.link(step.release.model, version)),
            model_card=MetadataValue.md(_card(step, fact)),
        )


def _registered(step: Step) -> Fact:
    """The evidence is re-hashed here, not believed: weights, evaluation, data and base."""
    evidence = step.evidence()
    release, platform = step.release, step.platform
    artifacts = {name: step.artifact(name) for name in ("dataset", "base_weights", "weights", "evaluation")}
    report = step.report(evidence["evaluation"])
    facts = VersionFacts(
        model=release.model,
        semver=release.spec.version,
        revision=release.revision,
        data_digest=artifacts["dataset"].digest,
        data_hash=release.data_hash,
        base_digest=artifacts["base_weights"].digest,
        weights_digest=artifacts["weights"].digest,
        evaluation_digest=artifacts["evaluation"].digest,
        fingerprint=step.fingerprint,
    )
    request = RegistrationRequest(
        facts=facts,
        run_id=evidence["weights"].body["experiment_run"],
        signature=sign_version(platform, facts.statement()),
        artifact_uri=f"{platform.artifacts.uri}/weights/{artifacts['weights'].digest}",
        description=model_card(step, facts, evidence),
        metrics=report["suites"],
        evidence={"evaluation.json": artifacts["evaluation"].path / "report.json"},
    )
    made = platform.registry.register(request)
    stands, signature = made.facts(), made.tags[SIGNATURE_TAG]  # an earlier attempt may have registered it already
    _refuse_other(stands, facts)
    platform.signatures.verify(stands.statement(), signature, platform_signers(platform), VERSION_NAMESPACE)
    platform.registry.set_alias(release.model, "candidate", made.version)
    body = {
        "version": str(made.version),
        "semver": stands.semver,
        "facts": stands.model_dump(mode="json"),
        "signature": signature,
    }
    also = {"dataset": facts.data_digest, "base_weights": facts.base_digest}
    return step.record(digest_of(body), body, also=also)


def _refuse_other(registered: VersionFacts, made: VersionFacts) -> None:
    """The first registration stands, with its revision; what it says of bytes must be what is here."""
    for name in ("weights_digest", "evaluation_digest", "fingerprint"):
        if getattr(registered, name) != getattr(made, name):
            raise IntegrityError(f"the registry returned a version with another {name}")


def _card(step: Step, fact: Fact) -> str:
    return model_card(step, VersionFacts.model_validate(fact.body["facts"]), step.release.evidence())
