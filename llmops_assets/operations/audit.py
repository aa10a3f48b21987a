"""The audit: from the running endpoint back to commit and data, measuring every link anew.

Each function below measures one kind of link and returns it; `llmops_core.lineage` says what the chain of them means.
Nothing is believed because a record says so: bytes are hashed, signatures verified, the commit read again. The
endpoint is asked who it is, and since anybody may say so, also what it was asked when it was evaluated.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from llmops_assets.deploying import public_url
from llmops_assets.operations.approving import trusted_signers
from llmops_assets.operations.endpoint import ask
from llmops_assets.operations.identity import platform_signers
from llmops_assets.release import Release, open_release
from llmops_assets.repositories import doors_for
from llmops_core.approval import APPROVAL_NAMESPACE, Statement
from llmops_core.errors import EnvironmentLacks, InputError, IntegrityError, LlmopsError, TransientError, UnknownSigner
from llmops_core.facts import Fact, first_broken, latest
from llmops_core.fingerprint import digest_of_file
from llmops_core.lineage import Link, ancestry
from llmops_core.made_of import compare, fingerprints_of, read_kept
from llmops_core.registration import VERSION_NAMESPACE, VersionFacts
from llmops_core.staging import judge_inference
from llmops_core.status import fold
from llmops_core.verdict import Verdict
from resources.wiring import Platform

MOST_NAMED = 5
ASKED = 20  # questions, enough to tell one model from another
# What each artefact is called in the chain, nearest to the endpoint first.
ARTIFACTS = ("canary", "staging_tests", "evaluation", "weights", "base_weights")


def audit(platform: Platform, model: str) -> list[Link]:
    """Every link of what serves in production, the endpoint first, the commit last."""
    try:
        facts = platform.ledger.facts()
    except IntegrityError as error:
        return [Link("ledger", "broken", str(error))]
    switched = latest(facts, "switched", model=model, subject="production")
    if switched is None or switched.body.get("deployment") is None:
        return [Link("production", "incomplete", _idle(facts, model))]
    own = [fact for fact in facts if fact.model == model]
    production = production_of(own, switched)
    links = [
        _endpoint(platform, model, switched),
        _measured("route", lambda: _route(platform, model, switched)),
        _measured("served file", lambda: _served_file(platform, switched)),
        _measured("server", lambda: platform.serving.witness(switched.body["deployment"])),
        _ledger(facts),
    ]
    if production is None:
        return [
            *links,
            Link("production", "broken", f"nothing was recorded to have made {switched.body['deployment']}"),
        ]
    try:
        chain = ancestry(own, production)
    except IntegrityError as error:
        return [*links, Link("production", "broken", str(error))]
    links.append(_production(switched, production, chain))
    links.append(_measured("registry", lambda: _registry(platform, chain["registered_version"])))
    links.append(_measured("approval", lambda: _approval(platform, own, chain["approval"])))
    links += [_artifact(platform, name, chain[name]) for name in ARTIFACTS]
    links.append(_measured("answers", lambda: _answers(platform, model, switched, chain["evaluation"])))
    for digest, fact in {f.body["digest"]: f for f in chain.values() if f.subject == "dataset"}.items():
        stages = [name.removeprefix("dataset of ") for name, f in chain.items() if f.body["digest"] == digest]
        links.append(_artifact(platform, f"dataset of {', '.join(sorted(stages))}", fact))
        links += _measured_each("dataset", lambda fact=fact: _data_of_commit(platform, fact))
    links.append(_measured("commit", lambda: _commit(platform, model, production)))
    return links


def _idle(facts: list[Fact], model: str) -> str:
    """That nothing serves, and since when if a person ended it."""
    told = f"{model} does not serve in production"
    retired = fold(model, facts).retired
    if retired is None or retired.state != "ended":
        return told
    return f"{told}: nothing does since {retired.by} ended it on {retired.at[:10]} ({retired.reason})"


def production_of(facts: list[Fact], switched: Fact) -> Fact | None:
    """The newest record of how the deployment that serves came into production."""
    made = [f for f in facts if f.kind == "produced" and f.subject == "production"]
    return next((f for f in reversed(made) if f.body["deployment"] == switched.body["deployment"]), None)


def _measured(name: str, measure: Callable[[], str]) -> Link:
    """Verified with what was seen; broken where something differs, incomplete where nothing answers."""
    try:
        return Link(name, "verified", measure())
    except (IntegrityError, InputError) as error:
        return Link(name, "broken", str(error))
    except LlmopsError as error:
        return Link(name, "incomplete", str(error))


def _measured_each(name: str, measure: Callable[[], Iterator[Link]]) -> list[Link]:
    try:
        return list(measure())
    except (IntegrityError, InputError) as error:
        return [Link(f"{name} in Git", "broken", str(error))]


def _endpoint(platform: Platform, model: str, switched: Fact) -> Link:
    url = public_url(platform, model, "production")
    try:
        answer = ask(url, "Are you there?")
    except TransientError as error:
        return Link("endpoint", "incomplete", str(error))
    expected = (switched.body["version"], switched.body["weights_digest"])
    seen = f"{url} answers as version {answer.version or '?'} with weights {answer.weights_digest[:12] or '?'}"
    if (answer.version, answer.weights_digest) != expected:
        return Link("endpoint", "broken", f"{seen}; recorded is version {expected[0]} with {expected[1][:12]}")
    return Link("endpoint", "verified", seen)


def _route(platform: Platform, model: str, switched: Fact) -> str:
    """Where the gateway sends requests, against the deployment that was recorded to take them: two deployments of one
    version answer alike."""
    recorded = switched.body["deployment"]
    route = platform.gateway.current().route(model, "production")
    shares = {share.deployment.name: share.weight_percent for share in route.shares} if route else {}
    seen = ", ".join(f"{name} {percent} %" for name, percent in sorted(shares.items())) or "nowhere"
    if not shares.get(recorded):
        raise IntegrityError(f"the gateway routes to {seen}; recorded is {recorded}")
    return f"the gateway routes to {seen}"


def _served_file(platform: Platform, switched: Fact) -> str:
    """The file that the server of this deployment reads, against the manifest of the recorded weights."""
    name = switched.body["deployment"]
    plan = platform.serving.plan(name)
    if plan is None:
        raise IntegrityError(f"no server of {name} runs here")
    path, digest = plan.model_file, str(switched.body["weights_digest"])
    artifact = platform.artifacts.get("weights", digest)
    if artifact is None:
        raise IntegrityError(f"the weights {digest[:12]} are gone")
    if not path.is_absolute():  # in pods, which fetch the folder by the digest of its bytes
        if plan.weights_digest != digest:
            raise IntegrityError(
                f"the pods of {name} fetch weights {plan.weights_digest[:12]}, recorded is {digest[:12]}"
            )
        return f"the pods of {name} fetch weights {digest[:12]} and hash every byte"
    recorded = {artifact.path / entry.path: entry.sha256 for entry in artifact.manifest.files}
    if path not in recorded:
        raise IntegrityError(f"{name} serves {path}, which is no file of the recorded weights")
    found = digest_of_file(path)
    if found != recorded[path]:
        raise IntegrityError(f"{path} hashes to {found[:12]}, recorded is {recorded[path][:12]}")
    return f"{path} hashes to {found[:12]}"


def _answers(platform: Platform, model: str, switched: Fact, evaluated: Fact) -> str:
    """What users are told, against what the evaluation of these weights recorded: whoever answers is this model."""
    folder = platform.artifacts.verified("evaluation", evaluated.body["digest"]).path / "candidate"
    lines = map(json.loads, (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines())
    known = [line for line in lines if isinstance(line["answer"], str)]
    chosen = known[:: max(1, len(known) // ASKED)][:ASKED]
    url = public_url(platform, model, "production")
    recorded = (switched.body["version"], switched.body["weights_digest"])
    given = [(ask(url, line["prompt"]), line["answer"].strip()) for line in chosen]
    own = [answer.text == text for answer, text in given if (answer.version, answer.weights_digest) == recorded]
    finding = judge_inference(sum(own), len(own))
    if finding.verdict is not Verdict.PASSED:
        raise IntegrityError(finding.reason)
    return f"{sum(own)} of {len(own)} are those that its evaluation recorded"


def _ledger(facts: list[Fact]) -> Link:
    broken = first_broken(facts)
    if broken is not None:
        return Link(
            "ledger", "broken", f"line {broken.sequence} is not what was written or does not follow its predecessor"
        )
    return Link("ledger", "verified", f"{len(facts)} facts form one chain, head {facts[-1].digest[:12]}")


def _production(switched: Fact, production: Fact, chain: dict[str, Fact]) -> Link:
    weights = chain["weights"].body["digest"]
    if switched.body["weights_digest"] != weights:
        return Link("production", "broken", f"it was recorded for weights {weights[:12]}, other weights serve")
    failed = [name for name, fact in chain.items() if fact.body["verdict"] != "passed"]
    if failed:
        return Link("production", "broken", f"it rests on {', '.join(sorted(failed))}, which did not pass")
    return Link("production", "verified", f"{production.body['deployment']} rests on {len(chain) - 1} recorded steps")


def _registry(platform: Platform, fact: Fact) -> str:
    facts = VersionFacts.model_validate(fact.body["facts"])
    found = platform.registry.verify(int(fact.body["version"]), facts)
    identity = platform.signatures.verify(
        facts.statement(), fact.body["signature"], platform_signers(platform), VERSION_NAMESPACE
    )
    return f"version {found.version} says the same in {len(facts.tags())} tags, signed by {identity}"


def _approval(platform: Platform, facts: list[Fact], fact: Fact) -> str:
    """Every counted signature again, over exactly the digests that serve."""
    recorded = {f.body["signature"]: f for f in facts if f.kind == "approved"}
    told: list[str] = []
    for approval in fact.body["approvals"]:
        origin = recorded.get(approval["signature"])
        if origin is None:
            raise IntegrityError(f"the approval by {approval['identity']} was never recorded")
        content, at = str(origin.body["statement"]).encode(), datetime.fromisoformat(origin.at)
        signed = (content, approval["signature"], trusted_signers(platform), APPROVAL_NAMESPACE, at)
        try:
            identity = platform.signatures.verify(*signed)
        except UnknownSigner as error:
            file = platform.settings.approvals.signers
            advice = f'a line taken out of {file} goes back there, and valid-before="YYYYMMDD" on it ends the key'
            raise IntegrityError(f"{approval['role']} by {approval['identity']}: {error}; {advice}") from error
        statement = Statement.from_bytes(content)
        subject = fact.body["subject"]
        other = [name for name, value in subject.items() if getattr(statement, name) != value]
        if other:
            raise IntegrityError(f"{identity} signed for another {', '.join(other)}")
        told.append(f"{statement.role} by {identity}")
    if not told:
        raise IntegrityError("nobody signed it, though every environment demands a signature")
    return f"signed: {', '.join(told)}"


def _artifact(platform: Platform, name: str, fact: Fact) -> Link:
    digest = fact.body["digest"]
    wrong = platform.artifacts.verify(fact.subject, digest)
    artifact = None if wrong else platform.artifacts.get(fact.subject, digest)
    if artifact is None:
        return Link(name, "broken", f"{fact.subject} {digest[:12]}: {'; '.join(wrong)}")
    return Link(name, "verified", f"{len(artifact.manifest.files)} files hash to {digest[:12]} in {artifact.path}")


def _data_of_commit(platform: Platform, fact: Fact) -> Iterator[Link]:
    """The recorded hashes against the pointers in the commit, and DVC's own copies against these hashes."""
    revision, folder = fact.body["revision"], fact.body["path"]
    platform = doors_for(platform, fact)
    tracked = platform.data.tracked(revision)
    for name, recorded in sorted(fact.body["files"].items()):
        path = f"{folder}/{name}" if name else folder
        pointer = tracked.get(path)
        if pointer is None or pointer.md5 != recorded:
            found = pointer.md5 if pointer else "nothing"
            yield Link(f"{path} in Git", "broken", f"{revision[:12]} names {found}, the data was made from {recorded}")
        else:
            yield _dvc_copy(platform, revision, path)


def _dvc_copy(platform: Platform, revision: str, path: str) -> Link:
    """DVC's bytes of that revision, hashed while they are copied. That DVC has none any more is not tampering."""
    name = f"{path} in DVC"
    try:
        with tempfile.TemporaryDirectory(dir=platform.home.folder("work")) as scratch:
            fetched = platform.data.fetch(revision, path, Path(scratch) / "data")
    except IntegrityError as error:
        return Link(name, "broken", str(error))
    except LlmopsError as error:
        return Link(name, "incomplete", str(error))
    return Link(name, "verified", f"{revision[:12]} names {fetched.pointer.md5}, {len(fetched.files)} files hash to it")


def _commit(platform: Platform, model: str, production: Fact) -> str:
    """The commit is there, and what it says gives the fingerprint that was released."""
    platform, revision = doors_for(platform, production), production.body["revision"]
    commit = platform.source.commit(revision)
    release = open_release(platform, model, revision)
    said = f"{revision[:12]} by {commit.author} <{commit.email}>, {commit.when:%Y-%m-%d %H:%M} UTC"
    if release.fingerprints["production"] == production.fingerprint:
        return said
    return f"{said}; {_by_rules_of_then(release, production)}"


def _by_rules_of_then(release: Release, production: Fact) -> str:
    """Whether the commit says what was released, where a platform with other rules released it."""
    then = read_kept(production.body.get("made_of"))
    if then is None or fingerprints_of(release.model, then)["production"] != production.fingerprint:
        found, revision = release.fingerprints["production"], release.revision
        raise IntegrityError(
            f"{revision[:12]} gives the fingerprint {found[:12]}, released was {production.fingerprint[:12]}"
        )
    differ = compare(then, release.made_of)
    if differ.other:
        raise IntegrityError(f"{release.revision[:12]} says otherwise than what was released: {_some(differ.other)}")
    if differ.gone:
        raise EnvironmentLacks(
            f"the platform that released it went by {_some(differ.gone)}, and this one does not: "
            f"`llmops release {release.model}` proves it by the rules of today"
        )
    added = f", which did not know {_some(differ.new)}" if differ.new else ""
    return f"released by other rules{added}; all that they know says the same"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
