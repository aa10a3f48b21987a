"""One model's release on one page: what serves, from what, how good, how proven."""

from dataclasses import asdict, dataclass, field
from typing import Any

from llmops_assets.deploying import public_url, serving_now
from llmops_assets.operations.audit import production_of
from llmops_core.errors import IntegrityError
from llmops_core.lineage import Link, ancestry, verdict_of
from resources.wiring import Platform


@dataclass(frozen=True)
class Summary:
    """What `llmops run` prints at its end; empty texts where nothing serves."""

    model: str
    reached: bool
    version: str = ""
    revision: str = ""
    data_hash: str = ""
    weights_digest: str = ""
    evaluation: dict[str, float] = field(default_factory=dict)
    canary: str = ""
    audit: str = ""
    url: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in self.evaluation.items())
        shown = {**self.as_dict(), "evaluation": figures, "reached": "production" if self.reached else "not production"}
        return [(name.replace("_", " "), str(value)) for name, value in shown.items()]


def summarise(platform: Platform, model: str, reached: bool, links: list[Link]) -> Summary:
    """From what serves in production now; a release that did not reach it changes nothing here but `reached`."""
    facts = platform.ledger.facts(model)
    now = serving_now(platform, model, "production")
    made = production_of(facts, now) if now else None
    if now is None or made is None:
        return Summary(model, reached)
    try:
        chain = ancestry(facts, made)
    except IntegrityError:
        chain = {}
    version, canary = chain.get("registered_version"), chain.get("canary")
    evaluation = chain.get("evaluation")
    return Summary(
        model,
        reached,
        now.body["version"],
        now.body["revision"],
        version.body["facts"]["data_hash"] if version else "",
        now.body["weights_digest"],
        evaluation.body["suites"] if evaluation else {},
        f"{canary.body['verdict']}: {canary.body['reason']}" if canary else "",
        verdict_of(links) if links else "not audited",
        public_url(platform, model, "production"),
    )
