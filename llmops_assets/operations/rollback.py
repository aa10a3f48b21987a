"""Back to the version before, at once: it is still running, so only the route changes.

A rollback waits for nobody: it does not queue behind a release. The candidate's proof ends with it; the same release
comes back only over a new canary (`llmops_core.promotion.current`).
"""

from dataclasses import dataclass

from llmops_assets.deploying import deployment_named, public_url, route, serving_now
from llmops_assets.operations.endpoint import ask
from llmops_core.errors import GateRefused, IntegrityError
from llmops_core.facts import Fact
from resources.wiring import Platform


@dataclass(frozen=True)
class RolledBack:
    model: str
    left_version: str
    version: str
    revision: str
    weights_digest: str
    url: str


def roll_back(platform: Platform, model: str, reason: str) -> RolledBack:
    """Gives all production traffic to the version that served before. Raises GateRefused when there is none."""
    now = serving_now(platform, model, "production")
    if now is None:
        raise GateRefused("rollback", f"{model} does not serve in production")
    before = _before(platform.ledger.facts(model), now)
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
    platform.ledger.append("intended", model=model, subject="rollback", body={**target, "reason": reason})
    route(platform, "production", [(deployment, 100)])
    url = public_url(platform, model, "production")
    answer = ask(url, "Are you there?")
    if (answer.version, answer.weights_digest) != (deployment.version, deployment.weights_digest):
        raise IntegrityError(f"{url} answers with version {answer.version or '?'} after the rollback")
    body = {
        **target,
        "state": "serving",
        "previous": None,
        "rolled_back": now.body["deployment"],
        "why": reason,
    }
    platform.ledger.append("switched", model=model, subject="production", body=body)
    platform.registry.set_alias(model, "production", int(deployment.version))
    left = now.body["version"]
    return RolledBack(model, left, deployment.version, target["revision"], deployment.weights_digest, url)


def _before(facts: list[Fact], now: Fact) -> Fact | None:
    """The newest switch to the deployment that `now` took over from."""
    for fact in reversed(facts):
        earlier = fact.kind == "switched" and fact.subject == "production" and fact.sequence < now.sequence
        if earlier and fact.body["deployment"] == now.body["previous"]:
            return fact
    return None
