"""The two deployments of a canary, and what is known of their requests since it began.

What counts is compared with who serves: a pod that is ready and that nobody reads may hide every failure, so a tick
with such a pod proves no safety. What the others counted is taken in all the same, because harm that is seen is harm.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from llmops_core.canary_policy import ArmCounts
from llmops_core.errors import TransientError
from llmops_core.routing import Deployment
from llmops_core.traffic_counts import TrafficCounts
from llmops_core.verdict import Finding, Verdict
from resources.wiring import Platform

Pods = dict[str, dict[str, list[str]]]  # by deployment: which are `ready`, and which of these are `scraped`


@dataclass
class Arm:
    """One deployment's traffic since the canary began, whatever restarts of the gateway reset its counters.

    `last` is None for a deployment that the counters do not know yet: it had no request.
    """

    deployment: Deployment
    last: TrafficCounts | None
    counts: ArmCounts = field(default_factory=ArmCounts)

    def add(self, now: TrafficCounts | None, limit_seconds: float) -> None:
        if now is None:
            return
        new = now if self.last is None else now.minus(self.last)
        self.last = now
        self.counts = ArmCounts(
            requests=self.counts.requests + new.requests,
            failures=self.counts.failures + new.failures,
            slow=self.counts.slow + max(new.slow(limit_seconds), new.failures),
        )


@dataclass(frozen=True)
class Reading:
    """The counts of one tick. `baseline` is None where they are unknown, or not all of them are known. `pods` says of
    each deployment whose pods count for themselves which were ready, and which of these were read."""

    candidate: ArmCounts
    baseline: ArmCounts | None
    findings: tuple[Finding, ...]
    pods: Pods


class Arms:
    """`since` is the moment from which requests count, by the clock of who counts them."""

    def __init__(self, platform: Platform, arms: list[Arm], since: float, limit_seconds: float) -> None:
        self._platform, self.arms, self._since, self._limit = platform, arms, since, limit_seconds

    def read(self) -> Reading:
        """Adds what happened since the last reading; nothing is added when the counts cannot be read."""
        pods: Pods = {}
        try:
            pods = pods_read(self._platform, self._names)
            now = self._platform.metrics.counts(self._since)
        except TransientError as error:
            return self._unknown(f"no counts this tick: {error}", pods)
        if not self._platform.metrics.begins_anew and any(_shrank(arm, now) for arm in self.arms):
            return self._unknown("the counts are older than those of the last tick", pods)
        for arm in self.arms:
            arm.add(now.get(arm.deployment.name), self._limit)
        scraped = judge_pods(pods)
        return self._reading(scraped, pods, compared=scraped is None or scraped.verdict is Verdict.PASSED)

    def settle(self) -> None:
        """Returns when what is counted now is in the next reading. Raises TransientError when it does not come."""
        self._platform.metrics.settle({pod for pods in _ready(self._platform, self._names).values() for pod in pods})

    def as_dict(self) -> dict[str, Any]:
        """For the ledger; `arm_in` reads it."""
        return {
            arm.deployment.name: {
                "last": arm.last.model_dump(mode="json") if arm.last else None,
                "counts": asdict(arm.counts),
            }
            for arm in self.arms
        }

    @property
    def _names(self) -> list[str]:
        return [arm.deployment.name for arm in self.arms]

    def _unknown(self, why: str, pods: Pods) -> Reading:
        return self._reading(Finding("counts", Verdict.ERROR, why), pods, compared=False)

    def _reading(self, finding: Finding | None, pods: Pods, compared: bool) -> Reading:
        counts = [arm.counts for arm in self.arms]
        baseline = counts[1] if compared and len(counts) > 1 else None
        return Reading(counts[0], baseline, () if finding is None else (finding,), pods)


def arm_in(told: Mapping[str, Any], deployment: Deployment) -> Arm:
    """The arm as the ledger has it, at rest if it has none."""
    known = told.get(deployment.name)
    if known is None:
        return Arm(deployment, None)
    last = TrafficCounts.model_validate(known["last"]) if known["last"] else None
    return Arm(deployment, last, ArmCounts(**known["counts"]))


def _shrank(arm: Arm, now: Mapping[str, TrafficCounts]) -> bool:
    if arm.last is None:
        return False
    found = now.get(arm.deployment.name)
    return found is None or not found.follows(arm.last)


def pods_read(platform: Platform, deployments: Iterable[str]) -> Pods:
    """Of deployments whose pods count for themselves. Raises TransientError where it is not known who is read."""
    ready = _ready(platform, deployments)
    scraped = platform.metrics.scraped() if ready else frozenset[str]()
    return {name: {"ready": sorted(pods), "scraped": sorted(pods & scraped)} for name, pods in ready.items()}


def judge_pods(pods: Pods) -> Finding | None:
    """Whether every pod that serves is read; None where pods do not count for themselves."""
    if not pods:
        return None
    missing = [_missing(name, found) for name, found in pods.items() if found["ready"] != found["scraped"]]
    if missing:
        return Finding("scraped", Verdict.ERROR, "; ".join(missing))
    told = sum(len(found["ready"]) for found in pods.values())
    return Finding("scraped", Verdict.PASSED, f"all {told} pods are scraped")


def _ready(platform: Platform, deployments: Iterable[str]) -> dict[str, frozenset[str]]:
    found = {name: platform.serving.counted_in(name) for name in deployments}
    return {name: pods for name, pods in found.items() if pods is not None}


def _missing(deployment: str, found: Mapping[str, list[str]]) -> str:
    pods = ", ".join(sorted({*found["ready"]} - {*found["scraped"]}))
    return f"{pods} of {deployment} is ready and not scraped: what it counts is unknown"
