"""What happened to each deployment's requests, from the gateway's Prometheus page.

The gateway counts a request when it ends, with its response code, the proxy's flags and its time (envoy_bootstrap.py).
A request failed if its code is 5xx or if the proxy says that the way to the server broke: an answer that began with 200
and was cut off is a failure. Flags that are not known to be the client's doing count as failures. If the client left,
the request is `abandoned`.
"""

import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import ClassVar

from llmops_core.errors import IntegrityError, TransientError
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS, TrafficCounts
from resources.traffic.envoy_bootstrap import HOST, STATISTIC_PREFIX, bucket_milliseconds
from resources.traffic.envoy_config import deployment_of
from resources.traffic.prometheus_text import Sample, parse_samples

PREFIX = f"envoy_{STATISTIC_PREFIX}_"
# Envoy's response flags: the client closed or reset the connection; the client broke the protocol.
CLIENT_LEFT = frozenset({"DC", "DR"})
CLIENT_FAULT = frozenset({"DPE"})
NO_FLAGS = frozenset({"-", ""})
SETTLE_LIMIT_SECONDS = 5.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Metrics(ABC):
    """Counts of requests for each deployment. `begins_anew` says whether a restart of who counts loses what it had
    counted; where it does not, counts that shrank are older ones, and no counts of now."""

    begins_anew: ClassVar[bool] = True

    @abstractmethod
    def counts(self, since: float | None = None) -> dict[str, TrafficCounts]:
        """Cumulative counts by deployment name, of every request that ended before the call (on a cluster, before the
        last scrape). What was counted before `since`, a moment of `now`, is left out where who counts remembers it; so
        compare only answers for the same `since`. A deployment that got no request, or that nothing is known of, is
        missing. Raises TransientError when who counts does not answer."""

    def now(self) -> float:
        """Seconds since 1970, by the clock of who counts."""
        return time.time()

    def scraped(self) -> frozenset[str]:
        """The pods whose own counts are in `counts` now; none where one gateway counts for all."""
        return frozenset()

    def settle(self, pods: Collection[str]) -> None:  # noqa: B027 -- nothing to wait for where one gateway counts
        """Returns when whatever these pods had counted at the call is in `counts`. Raises TransientError for a pod
        whose counts do not come."""


class EnvoyMetrics(Metrics):
    def __init__(self, port_base: int) -> None:
        self._url = f"http://{HOST}:{port_base + 3}/stats/prometheus?filter=^{STATISTIC_PREFIX}"

    def counts(self, since: float | None = None) -> dict[str, TrafficCounts]:
        """Envoy knows nothing of moments: all since it started. It adds to counters at once but merges
        histograms when asked, for the next reader: read until these hold what the counters held at the first reading.
        """
        wanted = _ended(self._scrape(), "requests")
        deadline = time.monotonic() + SETTLE_LIMIT_SECONDS
        while True:
            samples = self._scrape()
            merged = _ended(samples, "duration_count")
            if all(merged.get(series, 0) >= count for series, count in wanted.items()):
                return counts_of(samples)
            if time.monotonic() > deadline:
                raise TransientError("the gateway's histograms do not catch up with its counters")
            time.sleep(0.01)

    def _scrape(self) -> list[Sample]:
        try:
            with _direct.open(self._url, timeout=10) as response:
                return list(parse_samples(response.read().decode(), PREFIX))
        except (urllib.error.URLError, OSError) as error:
            raise TransientError(f"the gateway's metrics do not answer: {error}") from error
        except ValueError as error:
            raise IntegrityError(f"the gateway's metrics cannot be read: {error}") from error


def counts_of(samples: Iterable[Sample]) -> dict[str, TrafficCounts]:
    """Counts from one page. Every part of a count comes from the same histogram, so that they fit together."""
    edges = {bucket_milliseconds(edge): edge for edge in LATENCY_EDGES_SECONDS}
    numbers: dict[str, dict[str, int]] = defaultdict(lambda: {"requests": 0, "failures": 0, "abandoned": 0})
    faster: dict[str, dict[float, int]] = defaultdict(lambda: dict.fromkeys(LATENCY_EDGES_SECONDS, 0))
    for sample in samples:
        deployment = deployment_of(sample.labels.get("deployment", ""))
        if deployment is None:
            continue
        flags = frozenset(sample.labels["flags"].split(",")) - NO_FLAGS
        if sample.name == f"{PREFIX}duration_count":
            for kind in _kinds(int(sample.labels["code"]), flags):
                numbers[deployment][kind] += int(sample.value)
        elif sample.name == f"{PREFIX}duration_bucket" and sample.labels["le"] != "+Inf" and flags <= CLIENT_FAULT:
            faster[deployment][edges[float(sample.labels["le"])]] += int(sample.value)
    return {
        name: TrafficCounts(
            **found,
            edges_seconds=LATENCY_EDGES_SECONDS,
            faster=tuple(faster[name][edge] for edge in LATENCY_EDGES_SECONDS),
        )
        for name, found in numbers.items()
        if any(found.values())
    }


def _kinds(code: int, flags: frozenset[str]) -> tuple[str, ...]:
    if flags & CLIENT_LEFT:
        return ("abandoned",)
    failed = code >= 500 or code == 0 or bool(flags - CLIENT_FAULT)
    return ("requests", "failures") if failed else ("requests",)


def _ended(samples: list[Sample], name: str) -> dict[frozenset[tuple[str, str]], float]:
    """By series, of deployments only: the gateway's own answers are no evidence, and nobody waits for them."""
    return {
        frozenset(sample.labels.items()): sample.value
        for sample in samples
        if sample.name == f"{PREFIX}{name}" and deployment_of(sample.labels.get("deployment", "")) is not None
    }
