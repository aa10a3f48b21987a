"""Where every model stands, folded from the facts: what serves in which environment, what holds it up, and whether its
folder was removed or a person ended it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from llmops_core.facts import Fact
from llmops_core.open_canary import open_canary
from llmops_core.promotion import PASSED
from llmops_core.routing import Environment

ENVIRONMENTS: tuple[Environment, ...] = ("staging", "production")
SILENT = "not answering"


@dataclass(frozen=True)
class Serving:
    """What serves in one environment. `state` is serving, as recorded, or SILENT where somebody looked and got no
    answer, for the reason `trouble`. `url` is where it is reached now; no fact remembers it, since ports change."""

    version: str
    revision: str
    weights_digest: str
    state: str
    deployment: str
    since: str
    url: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Blocked:
    """Why the newest release of a model does not go on. `stage` is the one that refused or waits. `commit` is the one
    that was refused before any run was asked for; empty for what a run met."""

    stage: str
    reason: str
    commit: str = ""


@dataclass(frozen=True)
class Retirement:
    """Why there are no more releases of a model. `state` is "folder" when its folder was removed, which leaves what
    serves as it is, and "ended" when a person ended its production; `by`, `at` and `reason` are empty where no fact
    says it."""

    state: Literal["folder", "ended"]
    by: str = ""
    at: str = ""
    reason: str = ""


@dataclass(frozen=True)
class ModelStatus:
    """`canary` says which share a candidate has whose canary has no end yet; empty without one."""

    model: str
    environments: dict[str, Serving] = field(default_factory=dict[str, Serving])
    blocked: tuple[Blocked, ...] = ()
    latest_revision: str = ""
    retired: Retirement | None = None
    canary: str = ""

    @property
    def told_of_retirement(self) -> str:
        """One sentence; empty for a model that is not retired."""
        if self.retired is None:
            return ""
        if self.retired.state == "ended":
            what = f"{self.model} was ended by {self.retired.by} on {self.retired.at[:10]}: {self.retired.reason}"
            return f"{what}; `llmops retire {self.model}` ends what still serves" if self.environments else what
        what = f"{self.model} is retired: its folder was removed, so there are no releases any more"
        if "production" in self.environments:
            return f"{what}; production keeps serving until `llmops retire {self.model}`"
        return f"{what}; `llmops retire {self.model}` ends it in staging" if self.environments else what

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "environments": {name: asdict(serving) for name, serving in self.environments.items()},
            "blocked": [asdict(blocked) for blocked in self.blocked],
            "latest_revision": self.latest_revision,
            "retired": asdict(self.retired) if self.retired else None,
            "canary": self.canary,
        }


def fold(model: str, facts: Sequence[Fact]) -> ModelStatus:
    """The status of one model from its facts in order.

    A newly pinned revision clears what held up the one before it; a stage that is produced replaces its own refusal. A
    commit that was refused before any run does neither: the release that was asked for before still waits where it did.
    """
    environments: dict[str, Serving] = {}
    blocked: dict[str, Blocked] = {}
    revision, retired, rollback = "", None, None
    ours = [fact for fact in facts if fact.model == model]
    for fact in ours:
        if fact.kind == "pinned":
            revision = fact.body["revision"]
            blocked.clear()
        elif fact.kind == "refused" and fact.body.get("revision") == revision and not _before_a_run(fact):
            blocked[fact.subject] = Blocked(fact.subject, fact.body["reason"])
        elif fact.kind == "produced":
            blocked.pop(fact.subject, None)
            if fact.body.get("verdict") != PASSED:
                blocked[fact.subject] = Blocked(fact.subject, str(fact.body.get("reason") or "no reason was recorded"))
        elif fact.kind == "switched":
            _switch(environments, fact)
            rollback = None if fact.subject == "production" else rollback
            blocked |= _rolled_back(fact)
        elif fact.kind == "intended" and fact.subject == "rollback":
            rollback = fact
        elif fact.kind == "requested":
            retired = None
        elif fact.kind == "retired":
            retired = _retirement(fact)
            blocked.clear()
    held_up = (*_refused_commit(ours), *_unfinished(rollback, environments), *blocked.values())
    canary = found.told if (found := open_canary(ours)) is not None else ""
    return ModelStatus(model, environments, held_up, revision, retired, canary)


def _before_a_run(fact: Fact) -> bool:
    """Whether a sensor refused the commit itself, and says who it is."""
    return fact.kind == "refused" and "by" in fact.body


def _refused_commit(facts: Sequence[Fact]) -> tuple[Blocked, ...]:
    """The newest commit that was refused before any run, unless something was asked for since."""
    newest = next((f for f in reversed(facts) if f.kind in ("requested", "retired") or _before_a_run(f)), None)
    if newest is None or newest.kind != "refused":
        return ()
    return (Blocked(newest.subject, newest.body["reason"], newest.body["revision"]),)


def _retirement(fact: Fact) -> Retirement:
    if fact.subject == "production":
        return Retirement("ended", fact.body["by"], fact.at, fact.body["reason"])
    return Retirement("folder", fact.body.get("author", ""), fact.at, fact.body.get("reason", ""))


def _rolled_back(fact: Fact) -> dict[str, Blocked]:
    if not (left := fact.body.get("rolled_back")):
        return {}
    why = fact.body.get("why") or "no reason was given"
    return {"production": Blocked("production", f"{left} was rolled back on {fact.at[:10]}: {why}")}


def _unfinished(rollback: Fact | None, environments: dict[str, Serving]) -> tuple[Blocked, ...]:
    """A rollback to the version before that died when its route may have changed. One from a candidate is finished by
    the sensor of canaries."""
    serving = environments.get("production")
    if rollback is None or serving is None or rollback.body["deployment"] == serving.deployment:
        return ()
    to, again = rollback.body["deployment"], f"`llmops rollback {rollback.model}` goes on with it"
    return (Blocked("rollback", f"the one to {to} of {rollback.at[:10]} did not come to its end; {again}"),)


def _switch(environments: dict[str, Serving], fact: Fact) -> None:
    body = fact.body
    if body.get("deployment") is None:
        environments.pop(fact.subject, None)
        return
    environments[fact.subject] = Serving(
        version=body["version"],
        revision=body["revision"],
        weights_digest=body["weights_digest"],
        state=body["state"],
        deployment=body["deployment"],
        since=fact.at,
    )
