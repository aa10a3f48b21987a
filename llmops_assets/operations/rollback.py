"""Back to the version before, at once: it is still running, so only the route changes.

A rollback waits for nobody: it does not queue behind a release. The candidate's proof ends with it; the same release
comes back only over a new canary (`llmops_core.promotion.current`).

While a candidate has a share of production, the way back is from it: all traffic to what serves. The run that drives
the canary sees it at its next tick and ends.
"""

from dataclasses import dataclass
from typing import Any

from llmops_assets.canary_end import baseline_of, decide_way_back, give_back, rolling_back_to
from llmops_assets.deploying import deployment_named, name_in_registry, public_url, route, serving_in
from llmops_assets.operations.endpoint import ask
from llmops_core.errors import GateRefused, IntegrityError
from llmops_core.facts import Fact
from llmops_core.open_canary import OpenCanary, open_canary
from llmops_core.routing import Deployment
from resources.wiring import Platform


@dataclass(frozen=True)
class RolledBack:
    """`version`, `revision`, `weights_digest` and `url` are empty where a first version's canary ended: none serves."""

    model: str
    left_version: str
    version: str
    revision: str
    weights_digest: str
    url: str


def roll_back(platform: Platform, model: str, reason: str) -> RolledBack:
    """Gives all production traffic to what serves while a canary is open, else to the version that served before.
    Raises GateRefused when there is none."""
    facts = platform.ledger.facts(model)
    now = serving_in(facts, "production")
    if (canary := open_canary(facts)) is not None:
        return _end_canary(platform, canary, now, reason)
    if (candidate := _left_over(platform, facts, model, now)) is not None:
        baseline = baseline_of(platform, model, candidate.name)
        body = {**_kept(now), "reason": reason, "rolled_back": candidate.name}
        platform.ledger.append("intended", model=model, subject="rollback", body=body)
        return _take_back(platform, model, now, baseline, candidate.name, candidate.version, reason)
    if now is None:
        raise GateRefused("rollback", f"{model} does not serve in production")
    before = _before(facts, now)
    if before is None:
        raise GateRefused("rollback", f"no version of {model} served before {now.body['deployment']}")
    deployment = deployment_named(platform, before.body["deployment"])
    if deployment is None:
        raise GateRefused(
            "rollback", f"{before.body['deployment']} is not running any more; release its revision again"
        )
    if wrong := platform.artifacts.verify("weights", deployment.weights_digest):
        raise IntegrityError(f"the version before cannot be trusted: {'; '.join(wrong)}")
    platform.serving.wait_ready(deployment, 30)
    target = {key: before.body[key] for key in ("deployment", "version", "weights_digest", "revision")}
    left = now.body["deployment"]
    told = {**target, "reason": reason, "rolled_back": left}
    platform.ledger.append("intended", model=model, subject="rollback", body=told)
    route(platform, "production", [(deployment, 100)])
    url = _answering(platform, deployment)
    body = {
        **target,
        "state": "serving",
        "previous": None,
        "rolled_back": left,
        "why": reason,
    }
    platform.ledger.append("switched", model=model, subject="production", body=body)
    name_in_registry(platform, model)
    return RolledBack(
        model, now.body["version"], deployment.version, target["revision"], deployment.weights_digest, url
    )


def _left_over(platform: Platform, facts: list[Fact], model: str, now: Fact | None) -> Deployment | None:
    """What kept a share after its canary. Where a rollback moved the traffic and did not come to its end, that is not
    the version to which it went: it goes on."""
    found = platform.gateway.current().route(model, "production")
    serving = now.body["deployment"] if now is not None else None
    shares = [share.deployment for share in found.shares] if found else []
    return next((each for each in shares if each.name not in (serving, rolling_back_to(facts))), None)


def _end_canary(platform: Platform, canary: OpenCanary, now: Fact | None, reason: str) -> RolledBack:
    """Back from a candidate, unless it was promoted at this moment: then back from that."""
    model, version = canary.start.model, canary.start.body.get("version", "?")
    baseline = baseline_of(platform, model, canary.candidate)
    try:
        decide_way_back(platform, canary, "rollback", {**_kept(now), "reason": reason})
    except GateRefused:
        return roll_back(platform, model, reason)
    return _take_back(platform, model, now, baseline, canary.candidate, version, reason)


def _kept(now: Fact | None) -> dict[str, Any]:
    kept = ("version", "weights_digest", "revision")
    return {"deployment": None} if now is None else {key: now.body[key] for key in ("deployment", *kept)}


def _take_back(
    platform: Platform,
    model: str,
    now: Fact | None,
    baseline: Deployment | None,
    candidate: str,
    version: str,
    reason: str,
) -> RolledBack:
    """The fact comes last: until then the sensor of canaries gives the traffic back if this process dies."""
    kept = _kept(now)
    give_back(platform, model, baseline, lambda: None)
    url = _answering(platform, baseline) if baseline is not None else ""
    # what serves does not change, and neither does what it followed
    body = {**now.body} if now else {"deployment": None, "previous": None}
    body |= {"rolled_back": candidate, "why": reason}
    platform.ledger.append("switched", model=model, subject="production", body=body)
    if baseline is None:
        return RolledBack(model, version, "", "", "", "")
    return RolledBack(model, version, kept["version"], kept["revision"], kept["weights_digest"], url)


def _answering(platform: Platform, deployment: Deployment) -> str:
    """Where production answers; raises IntegrityError when that is another version."""
    url = public_url(platform, deployment.model, "production")
    answer = ask(url, "Are you there?")
    if (answer.version, answer.weights_digest) != (deployment.version, deployment.weights_digest):
        raise IntegrityError(f"{url} answers with version {answer.version or '?'} after the rollback")
    return url


def _before(facts: list[Fact], now: Fact) -> Fact | None:
    """The newest switch to the deployment that `now` took over from."""
    for fact in reversed(facts):
        earlier = fact.kind == "switched" and fact.subject == "production" and fact.sequence < now.sequence
        if earlier and fact.body["deployment"] == now.body["previous"]:
            return fact
    return None
