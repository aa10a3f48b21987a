"""What a load of requests showed. Nothing measured is None, never 0 and never a success.

Latency quantiles are of the requests that were answered with a 2xx status: an error is often fast, and would make a
failing server look quick. Quantiles interpolate linearly between order statistics (Hyndman & Fan 1996, type 7).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One request: `status` where an answer came, else `error` (the kind of failure); `version` as the answer said."""

    latency_seconds: float
    status: int | None = None
    error: str | None = None
    version: str | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300 and self.error is None

    @property
    def failure(self) -> str | None:
        """`HTTP 503`, `timeout`, … or None for a success."""
        if self.ok:
            return None
        return self.error or f"HTTP {self.status}"


@dataclass(frozen=True)
class LoadSummary:
    """Counts, and what can be said from them; None where there is nothing to say it from."""

    total: int
    ok: int
    success_rate: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    requests_per_second: float | None
    errors: Mapping[str, int]
    versions: Mapping[str, int]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def summarise(samples: Sequence[Sample], elapsed_seconds: float | None = None) -> LoadSummary:
    """Summary of `samples`, which took `elapsed_seconds` by the clock (needed for the rate only)."""
    latencies = [sample.latency_seconds for sample in samples if sample.ok]
    p50, p95, p99 = (quantile(latencies, share) for share in (0.5, 0.95, 0.99))
    return LoadSummary(
        total=len(samples),
        ok=len(latencies),
        success_rate=len(latencies) / len(samples) if samples else None,
        p50_seconds=p50,
        p95_seconds=p95,
        p99_seconds=p99,
        requests_per_second=len(samples) / elapsed_seconds if samples and elapsed_seconds else None,
        errors=_counted([sample.failure for sample in samples]),
        versions=_counted([sample.version for sample in samples]),
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None


def _counted(names: Sequence[str | None]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    return dict(Counter(name for name in names if name is not None).most_common())
