"""What happened to each deployment's requests on a cluster, asked of a Prometheus that scrapes every pod's front.

The counts are those of the proxies in the pods (pod_front.py), the same as on one machine, and summed here. Each start
of a proxy has series of its own, which never begin again, so what happened since a moment is each series' last value
less the one it had then, added up: the same for whoever asks, however often pods and this process were started again.
Series of pods that are gone are in it. Both parts of the histograms are read as of one moment, and a histogram that
lacks a part is an error: what is missing says nothing, least of all that nothing failed.

A count is as old as the scrape before the last one: Envoy shows in a histogram what it knew when it was asked before.
`settle` waits for two scrapes more. A scrape that fails ends a pod's series at once (Prometheus marks them stale), so a
pod whose ALIVE is there was read by the last one: `scraped` names these, for comparison with the pods that serve.
"""

import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection
from typing import Any

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.serving_settings import PrometheusServer
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS, TrafficCounts
from resources.secret_values import secret_value
from resources.traffic.envoy_config import deployment_of
from resources.traffic.metrics import PREFIX, Metrics, counts_of
from resources.traffic.prometheus_text import Sample

LOOK_BACK_SECONDS = 86400
SETTLE_LIMIT_SECONDS = 60.0  # for the scrapes that `settle` waits for
SCRAPES_UNTIL_KNOWN = 2
ANSWER_LIMIT_SECONDS = 30
FIRST_SCRAPE_SECONDS = 60.0  # until a pod that is ready is known to Prometheus
PAUSE_SECONDS = 1.0
COUNT, BUCKET = f"{PREFIX}duration_count", f"{PREFIX}duration_bucket"
ALIVE = "envoy_server_live"
IDENTITY = ("boot", "deployment", "code", "flags")
MONITORS = "see its PodMonitor (deploy/kubernetes/components/monitoring) and the network policies"
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Series = tuple[str, ...]
Values = dict[Series, Sample]


class PrometheusMetrics(Metrics):
    """`namespace` is that of the model servers."""

    begins_anew = False

    def __init__(
        self,
        server: PrometheusServer,
        namespace: str,
        first_scrape_seconds: float = FIRST_SCRAPE_SECONDS,
        settle_seconds: float = SETTLE_LIMIT_SECONDS,
    ) -> None:
        self._server, self._namespace = server, namespace
        self._first_scrape_seconds, self._settle_seconds = first_scrape_seconds, settle_seconds

    def counts(self, since: float | None = None) -> dict[str, TrafficCounts]:
        """As the Metrics say, but of what was scraped; without `since`, of the last day. Raises TransientError, too,
        when no server is scraped at all."""
        moment = self.now()
        seconds = LOOK_BACK_SECONDS if since is None else max(1, math.ceil(moment - since) + 1)
        values = self._values(moment, seconds)
        if since is not None:
            before = self._values(since, LOOK_BACK_SECONDS)
            values = {key: _less(sample, before.get(key)) for key, sample in values.items()}
        try:
            return counts_of(values.values())
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"the series {COUNT} at {self._server.url} cannot be read: {error}") from error

    def servers(self) -> int:
        """How many model servers are scraped now."""
        return len(self._asked(self._alive))

    def scraped(self) -> frozenset[str]:
        return frozenset(pod for pod, _ in self._scrapes())

    def settle(self, pods: Collection[str]) -> None:
        began, deadline = self.now(), time.monotonic() + self._settle_seconds
        seen: dict[str, set[float]] = {pod: set() for pod in pods}
        while True:
            for pod, at in self._scrapes():
                if pod in seen and at > began:
                    seen[pod].add(at)
            late = sorted(pod for pod, times in seen.items() if len(times) < SCRAPES_UNTIL_KNOWN)
            if not late:
                return
            if time.monotonic() > deadline:
                raise TransientError(f"{self._server.url} does not scrape {', '.join(late)}: {MONITORS}")
            time.sleep(PAUSE_SECONDS)

    @property
    def _alive(self) -> str:
        return f'timestamp({ALIVE}{{namespace="{self._namespace}"}})'

    def _scrapes(self) -> list[tuple[str, float]]:
        """(pod, time of its last scrape) of every pod that the last scrape reached."""
        return [(metric.get("pod", ""), at) for metric, at, _ in self._asked(self._alive)]

    def _values(self, moment: float, seconds: int) -> Values:
        """What every series showed last before a moment, of those that showed anything within so many seconds."""
        found: Values = {}
        for name, labels in ((COUNT, IDENTITY), (BUCKET, (*IDENTITY, "le"))):
            query = f'last_over_time({name}{{namespace="{self._namespace}"}}[{seconds}s])'
            for metric, value, _ in self._asked(query, moment):
                key = (name, *(metric.get(label, "") for label in labels))
                if deployment_of(metric.get("deployment", "")) is None or (key in found and found[key].value > value):
                    continue  # the same start under labels that a change of its monitor left behind
                found[key] = Sample(name, metric, value)
        self._refuse_halves(found)
        return found

    def now(self) -> float:
        """The server's own time, when it knows of one model server at least."""
        deadline = time.monotonic() + self._first_scrape_seconds
        while True:
            alive = self._asked(self._alive)
            if alive:
                return alive[0][2]
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{self._server.url} scrapes no model server in {self._namespace}, so nothing is known: {MONITORS}"
                )
            time.sleep(PAUSE_SECONDS)

    def _refuse_halves(self, values: Values) -> None:
        wanted = len(LATENCY_EDGES_SECONDS) + 1
        found: dict[Series, int] = {key[1:]: 0 for key in values if key[0] == COUNT}
        for key in values:
            if key[0] == BUCKET:
                found[key[1:-1]] = found.get(key[1:-1], -wanted) + 1
        halves = [series for series, buckets in found.items() if buckets != wanted]
        if halves:
            raise IntegrityError(
                f"{self._server.url} has a part of the histogram of {halves[0]} only: nothing is counted"
            )

    def _asked(self, query: str, moment: float | None = None) -> list[tuple[dict[str, str], float, float]]:
        """(labels, value, time) of each series of an instant query."""
        body = {"query": query} | ({"time": f"{moment:.3f}"} if moment is not None else {})
        request = urllib.request.Request(  # noqa: S310 -- an address of the settings, http or https
            f"{self._server.url.rstrip('/')}/api/v1/query", urllib.parse.urlencode(body).encode(), self._headers()
        )
        try:
            with _direct.open(request, timeout=ANSWER_LIMIT_SECONDS) as response:
                return _vector(json.load(response))
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise EnvironmentLacks(
                    f"{self._server.url} answers {error.code}: see serving.prometheus.token"
                ) from None
            raise TransientError(f"{self._server.url} answers {error.code}: {error.read()[:300]!r}") from None
        except OSError as error:
            raise TransientError(f"{self._server.url} cannot be reached: {getattr(error, 'reason', error)}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"what {self._server.url} answers is no result of a query: {error}") from error

    def _headers(self) -> dict[str, str]:
        token = self._server.token
        return {"Authorization": f"Bearer {secret_value(token, os.environ)}"} if token is not None else {}


def _less(sample: Sample, before: Sample | None) -> Sample:
    return sample if before is None else Sample(sample.name, sample.labels, max(0, sample.value - before.value))


def _vector(answer: Any) -> list[tuple[dict[str, str], float, float]]:
    if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
        raise ValueError(str(answer)[:200])
    if answer.get("warnings"):  # such as a store behind it that did not answer: the rest is no evidence
        raise TransientError(f"Prometheus knows a part only: {answer['warnings']}")
    return [(each["metric"], float(each["value"][1]), float(each["value"][0])) for each in answer["data"]["result"]]
