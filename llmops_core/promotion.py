"""Who may follow whom: the evidence that each stage demands, and the states a version passes through.

A `produced` fact names the digest of what it made and the digests of what it was made from, so the facts form a Merkle
graph. A stage is allowed when every stage before it is produced for this release's fingerprints, has passed, and was
made from exactly the digests that are current now. Gates call `require` again, whoever launched them.
"""

from collections.abc import Collection, Mapping, Sequence

from llmops_core.errors import GateRefused
from llmops_core.facts import Fact, latest
from llmops_core.plan import STAGES

# What each stage is made from. The edges of lineage, and the reason a stale result is never reused.
MADE_FROM: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "base_weights": (),
    "weights": ("base_weights",),
    "evaluation": ("weights",),
    "registered_version": ("weights", "evaluation"),
    "staging_deployment": ("registered_version",),
    "staging_tests": ("staging_deployment",),
    "approval": ("registered_version", "evaluation", "staging_tests"),
    "canary": ("registered_version", "approval"),
    "production": ("registered_version", "approval", "canary"),
}

# The states of a version in the order of the story; the stage on the left leads into the state on the right.
STATE_AFTER: dict[str, str] = {
    "registered_version": "registered",
    "staging_deployment": "staged",
    "staging_tests": "tested",
    "approval": "approved",
    "canary": "proven",
    "production": "serving",
}

PASSED = "passed"
WAYS_BACK = ("rollback", "way_back")  # subjects of what is written before production's traffic is taken back


def before(stage: str) -> tuple[str, ...]:
    """Every stage that comes before this one in the story."""
    return STAGES[: STAGES.index(stage)]


def still_judged(evaluated: Fact, weights_digest: str, serving: str | None) -> bool:
    """Whether an evaluation holds beside what serves in production now, known by the digest of its weights. One beside
    another production model is made anew, unless these weights are what serves."""
    return serving in (evaluated.body["baseline"], weights_digest)


def current(facts: Sequence[Fact], fingerprints: Mapping[str, str]) -> dict[str, Fact]:
    """{stage: the newest fact} of all stages that exist for these fingerprints and rest on current digests.

    A stage whose inputs were made anew since (the same fingerprint, other bytes) is left out: it proves nothing about
    the new bytes. A canary whose deployment was rolled back since is left out too, for users were harmed after all, and
    so is one whose traffic went back, or to another canary, before it was promoted: it would get all traffic at once.
    """
    newest: dict[tuple[str, str], Fact] = {}
    served: set[str] = set()
    for fact in facts:
        if fact.kind == "produced":
            newest[fact.subject, fact.fingerprint] = fact
        elif left := _given_up(fact):
            newest = {key: made for key, made in newest.items() if not _proves(made, left)}
        elif fact.kind == "intended" and fact.subject == "canary":
            newest = {key: made for key, made in newest.items() if not _lost_its_share(made, served)}
        if fact.kind == "switched" and fact.subject == "production" and fact.body.get("deployment"):
            served.add(fact.body["deployment"])
    result: dict[str, Fact] = {}
    for stage in STAGES:
        fact = newest.get((stage, fingerprints[stage]))
        if fact is not None and all(
            up in result and fact.body["inputs"].get(up) == result[up].body["digest"] for up in MADE_FROM[stage]
        ):
            result[stage] = fact
    return result


def _given_up(fact: Fact) -> str:
    """The deployment from which all production traffic is taken back, from when that was decided; empty for any other
    fact."""
    if fact.kind == "switched" or (fact.kind == "intended" and fact.subject in WAYS_BACK):
        return fact.body.get("rolled_back") or ""
    ended = fact.kind == "refused" and fact.subject == "canary" and "left_percent" in fact.body
    return fact.body["candidate"] if ended else ""


def _lost_its_share(fact: Fact, served: Collection[str]) -> bool:
    """When another canary begins, which sets the whole route. What had all traffic once is proven by more."""
    return fact.subject == "canary" and fact.body.get("deployment") not in served


def _proves(fact: Fact, deployment: str) -> bool:
    return fact.subject in ("canary", "production") and fact.body.get("deployment") == deployment


def require(stage: str, evidence: Mapping[str, Fact]) -> None:
    """Raises GateRefused unless every stage before `stage` is there and has passed."""
    for earlier in before(stage):
        fact = evidence.get(earlier)
        if fact is None:
            raise GateRefused(stage, f"there is no current {earlier} for this revision; materialize it first")
        if fact.body.get("verdict") != PASSED:
            reason = fact.body.get("reason") or "no reason was recorded"
            raise GateRefused(stage, f"{earlier} is {fact.body.get('verdict')}: {reason}")


def serves(facts: Sequence[Fact], fingerprints: Mapping[str, str]) -> bool:
    """Whether production traffic goes to exactly this release now, and not to another since."""
    production = current(facts, fingerprints).get("production")
    switched = latest(facts, "switched", subject="production")
    return (
        production is not None
        and switched is not None
        and switched.body.get("state") == "serving"
        and switched.body.get("deployment") == production.body["deployment"]
    )
