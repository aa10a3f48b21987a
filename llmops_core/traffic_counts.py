"""What a deployment's requests came to, as counts that only grow; decisions are made on differences of two of them.

`faster` holds, for each edge, how many requests were answered in less than that many seconds. A request that was never
answered (a timeout, a reset, a refused connection) is in no bucket, however soon it failed, so it is slow as well as
failed. A request whose client left before the end is none of the deployment's: it says neither good nor bad, is kept
apart in `abandoned`, and whoever judges sees how much evidence went missing that way.
"""

import math
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Where latencies are counted exactly; a limit on latency must be one of these.
LATENCY_EDGES_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0),
)


class TrafficCounts(BaseModel):
    """Cumulative since the gateway started. Edges are seconds, ascending; `faster` is aligned with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(ge=0)
    failures: int = Field(ge=0)
    abandoned: int = Field(ge=0)
    edges_seconds: tuple[float, ...]
    faster: tuple[int, ...]

    @model_validator(mode="after")
    def _counts_fit_together(self) -> Self:
        if len(self.edges_seconds) != len(self.faster):
            raise ValueError(f"{len(self.edges_seconds)} edges but {len(self.faster)} counts")
        if any(later <= earlier for earlier, later in zip(self.edges_seconds, self.edges_seconds[1:], strict=False)):
            raise ValueError(f"edges are not ascending: {self.edges_seconds}")
        if list(self.faster) != sorted(self.faster) or any(count < 0 for count in self.faster):
            raise ValueError(f"counts below the edges are not cumulative: {self.faster}")
        if max(self.failures, *self.faster, 0) > self.requests:
            raise ValueError("more failures or answers than requests")
        return self

    def minus(self, earlier: "TrafficCounts") -> "TrafficCounts":
        """What happened since `earlier`. If anything shrank, the gateway restarted, and all of `self` is since then."""
        if self.edges_seconds != earlier.edges_seconds:
            raise ValueError("counts over different edges cannot be subtracted")
        if not self.follows(earlier):
            return self
        return TrafficCounts(
            requests=self.requests - earlier.requests,
            failures=self.failures - earlier.failures,
            abandoned=self.abandoned - earlier.abandoned,
            edges_seconds=self.edges_seconds,
            faster=tuple(now - then for now, then in zip(self.faster, earlier.faster, strict=True)),
        )

    def follows(self, earlier: "TrafficCounts") -> bool:
        """Whether nothing shrank since `earlier`."""
        return all(now >= then for now, then in zip(self._all(), earlier._all(), strict=True))

    def slow(self, threshold_seconds: float) -> int:
        """Requests without an answer in less than the threshold, which must be an edge: ValueError otherwise."""
        if threshold_seconds not in self.edges_seconds:
            raise ValueError(f"{threshold_seconds} s is no bucket edge; choose one of {list(self.edges_seconds)}")
        return self.requests - self.faster[self.edges_seconds.index(threshold_seconds)]

    def failure_fraction(self) -> float | None:
        return self.failures / self.requests if self.requests else None

    def slow_fraction(self, threshold_seconds: float) -> float | None:
        slow = self.slow(threshold_seconds)
        return slow / self.requests if self.requests else None

    def quantile_seconds(self, fraction: float) -> float | None:
        """The time that `fraction` of the requests stayed under, interpolated inside its bucket as Prometheus does.

        None when nothing was measured; infinity when the quantile lies above the last edge or was never answered.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"{fraction} is no fraction of the requests")
        if not self.requests:
            return None
        wanted, low_edge, low_count = fraction * self.requests, 0.0, 0
        for edge, count in zip(self.edges_seconds, self.faster, strict=True):
            if count >= wanted:
                return low_edge + (edge - low_edge) * (wanted - low_count) / (count - low_count)
            low_edge, low_count = edge, count
        return math.inf

    def _all(self) -> tuple[int, ...]:
        return (self.requests, self.failures, self.abandoned, *self.faster)
