"""What an attempt of a job used of the cluster: of each of its pods, from when until when it had its GPUs.

A pod has its GPUs from the start of its first container to the end of its last. The cluster says both, as long as it
knows the pod; of one that it forgot while nobody looked, what the pod itself wrote into the object store tells as much.
Every attempt is billed by the sum over its pods, those of before a suspension too, in the months in which they ran.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from llmops_core.job_outcomes import containers_of

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class PodUse:
    """One pod, by its uid. Times are seconds since 1970."""

    pod: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.began)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def use_of(pod: Manifest, now: float) -> PodUse | None:
    """What the cluster says of a pod; None if no container of it ran that is known. One that is deleted before its end
    was told counts until it had to be gone."""
    began: list[float] = []
    ended: list[float] = []
    leaving = pod["metadata"].get("deletionTimestamp")
    last = min(now, _time(leaving)) if leaving else now
    for status in containers_of(pod):
        states: tuple[Manifest, ...] = (status.get("lastState") or {}, status.get("state") or {})
        for state in states:
            ran: Manifest = state.get("terminated") or state.get("running") or {}
            if ran.get("startedAt"):
                began.append(_time(ran["startedAt"]))
                ended.append(_time(ran["finishedAt"]) if ran.get("finishedAt") else last)
    # whoever asks may have a clock that is behind the cluster's
    return PodUse(str(pod["metadata"]["uid"]), min(began), max(*ended, min(began))) if began else None


def together(known: Iterable[PodUse], written: Iterable[PodUse]) -> list[PodUse]:
    """One use of each pod: as the cluster knows it, else as the pod wrote."""
    found = {use.pod: use for use in written} | {use.pod: use for use in known}
    return sorted(found.values(), key=lambda use: (use.began, use.pod))


def span_seconds(uses: Sequence[PodUse]) -> float:
    """From the first pod's start to the last one's end."""
    last, first = max((use.ended for use in uses), default=0.0), min((use.began for use in uses), default=0.0)
    return max(0.0, last - first)


def by_month(uses: Iterable[PodUse]) -> dict[str, float]:
    """{month of UTC, such as 2026-11: seconds of all pods in it}"""
    found: dict[str, float] = {}
    for use in uses:
        at = use.began
        while at < use.ended:
            month = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1).timestamp()
            until = min(following, use.ended)
            found[f"{month:%Y-%m}"] = found.get(f"{month:%Y-%m}", 0.0) + until - at
            at = until
    return found


def _time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
