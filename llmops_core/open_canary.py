"""A canary that began and has no end: its candidate may have a share of production, whether anybody judges it or not.

A model has one at most, the newest that began: each sets the whole route. It ends with its record if it failed, with
traffic that a `switched` fact sends elsewhere, with the model's retirement, or with a refusal that says that nothing of
its share is left (`left_percent` 0). A refusal that leaves more ends nothing: it says that the traffic has to be given
back as soon as that can be done. One that passed keeps its last share until the switch that promotes it, and is open
until then: nobody judges it any more.

Whether it is promoted or its traffic goes back is decided by one fact, the first that holds `key`: the switch, or what
is written before any traffic goes back. Two processes may try at one moment, and only one of them goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmops_core.facts import Fact
from llmops_core.promotion import PASSED, WAYS_BACK

SUBJECT = "canary"


@dataclass(frozen=True)
class OpenCanary:
    """`over` is why no run may go on with it, empty while one may. `seen_at` is when it was judged last (ISO 8601).
    `is_promoting` from when its promotion was about to move all traffic. `goes_back` from when its traffic was to go
    back: nobody may give it any more."""

    start: Fact
    ticks: tuple[dict[str, Any], ...] = ()
    over: str = ""
    seen_at: str = ""
    has_passed: bool = False
    is_promoting: bool = False
    goes_back: bool = False

    @property
    def candidate(self) -> str:
        return self.start.body["candidate"]

    @property
    def revision(self) -> str:
        return self.start.body.get("revision", "")

    @property
    def weights_bytes(self) -> int:
        return self.start.body.get("weights_bytes", 0)

    @property
    def key(self) -> str:
        """Of the one fact that decides how it ends."""
        return f"canary:{self.start.digest}"

    @property
    def share_percent(self) -> int:
        """The greatest share that the candidate may have now: what was decided last, but for a way back of which
        nobody wrote that it was gone."""
        if self.is_promoting:
            return 100
        kept = [tick["weight_percent"] for tick in self.ticks if tick["action"] in ("hold", "step")]
        return kept[-1] if kept else self.start.body.get("share_percent", 100)

    @property
    def told(self) -> str:
        last = self.seen_at[:19].replace("T", " ")
        waits = ", passed and not promoted yet" if self.has_passed else ""
        return f"{self.candidate} has up to {self.share_percent} % of production; last judged at {last} UTC{waits}"


def open_canary(facts: Sequence[Fact]) -> OpenCanary | None:
    """Of one model's facts in order."""
    found: OpenCanary | None = None
    for fact in facts:
        if fact.kind == "intended" and fact.subject == SUBJECT:
            found = OpenCanary(fact, seen_at=fact.at)
        elif found is not None:
            found = _after(found, fact)
    return found


def _after(canary: OpenCanary, fact: Fact) -> OpenCanary | None:
    body, ours = fact.body, fact.subject == SUBJECT and fact.fingerprint == canary.start.fingerprint
    proven = fact.kind == "produced" and ours
    ended = (
        (proven and body["verdict"] != PASSED)
        or (fact.kind == "switched" and fact.subject == "production")
        or (fact.kind == "retired" and fact.subject == "production")
        or (fact.kind == "refused" and ours and body.get("left_percent") == 0)
    )
    if ended:
        return None
    if proven:
        return replace(canary, has_passed=True, seen_at=fact.at)
    if fact.kind == "ticked" and ours and body["candidate"] == canary.candidate:
        return replace(canary, ticks=(*canary.ticks, body), seen_at=fact.at)
    if fact.kind == "intended" and fact.subject == "production" and body["deployment"] == canary.candidate:
        return replace(canary, is_promoting=True)
    over, back = _why_over(canary, fact), canary.goes_back or _takes_back(fact, ours)
    return replace(canary, over=canary.over or over, goes_back=back)


def _takes_back(fact: Fact, ours: bool) -> bool:
    return (fact.kind == "intended" and fact.subject in WAYS_BACK) or (ours and "left_percent" in fact.body)


def _why_over(canary: OpenCanary, fact: Fact) -> str:
    """Only what a run of this very release met counts among refusals: its gates refuse it again."""
    body = fact.body
    if fact.kind == "intended" and fact.subject in WAYS_BACK:
        return f"a person rolled it back: {body['reason']}" if fact.subject == "rollback" else body["reason"]
    if fact.kind == "retired":
        return "the model's folder was removed"
    if fact.kind == "refused" and fact.fingerprint == canary.start.fingerprint and "left_percent" in body:
        return f"its run ended: {body['reason']}"
    same = body.get("run_id") and body.get("revision") == canary.revision
    if fact.kind == "refused" and same and fact.subject != "run":
        return f"its release was refused: {body['reason']}"
    return ""
