"""What happened to each deployment's requests on a cluster, asked of a Prometheus that scrapes every pod's front.

The counts are those of the proxies in the pods (pod_front.py), the same as on one machine, and summed here. Each start
of a proxy has series of its own, which never begin again; those of pods that are gone are asked for too, as far back as
LOOK_BACK, and are remembered by this process after that. So a deployment's sum only grows while its pods come and go.
Both parts of the histograms are read as of one moment, and a histogram that lacks a part is an error: what is missing
says nothing, least of all that nothing failed. What this shows is as old as the last scrape.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.serving_settings import PrometheusServer
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS, TrafficCounts
from resources.envoy_config import deployment_of
from resources.metrics import PREFIX, Metrics, counts_of
from resources.prometheus_text import Sample
from resources.secret_values import secret_value

LOOK_BACK = "1d"
ANSWER_LIMIT_SECONDS = 30
FIRST_SCRAPE_SECONDS = 60.0  # until a pod that is ready is known to Prometheus
PAUSE_SECONDS = 1.0
COUNT, BUCKET = f"{PREFIX}duration_count", f"{PREFIX}duration_bucket"
ALIVE = "envoy_server_live"
IDENTITY = ("boot", "deployment", "code", "flags")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Series = tuple[str, ...]


class PrometheusMetrics(Metrics):
    """`namespace` is that of the model servers."""

    def __init__(
        self, server: PrometheusServer, namespace: str, first_scrape_seconds: float = FIRST_SCRAPE_SECONDS
    ) -> None:
        self._server, self._namespace, self._patience = server, namespace, first_scrape_seconds
        self._known: dict[Series, Sample] = {}

    def counts(self) -> dict[str, TrafficCounts]:
        """As the Metrics say, but of what was scraped. Raises TransientError, too, when no server is scraped at all."""
        moment = self._scraped()
        for name, labels in ((COUNT, IDENTITY), (BUCKET, (*IDENTITY, "le"))):
            query = f'last_over_time({name}{{namespace="{self._namespace}"}}[{LOOK_BACK}])'
            for metric, value, _ in self._asked(query, moment):
                if deployment_of(metric.get("deployment", "")) is not None:
                    self._known[name, *(metric.get(label, "") for label in labels)] = Sample(name, metric, value)
        self._refuse_halves()
        try:
            return counts_of(self._known.values())
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"the series {COUNT} at {self._server.url} cannot be read: {error}") from error

    def servers(self) -> int:
        """How many model servers are scraped now."""
        alive = self._asked(self._alive)
        return int(alive[0][1]) if alive else 0

    @property
    def _alive(self) -> str:
        return f'count({ALIVE}{{namespace="{self._namespace}"}})'

    def _scraped(self) -> float:
        """The server's own time, when it knows of one model server at least."""
        deadline = time.monotonic() + self._patience
        while True:
            alive = self._asked(self._alive)
            if alive:
                return alive[0][2]
            if time.monotonic() > deadline:
                advice = "see its PodMonitor (deploy/kubernetes/components/monitoring) and the network policies"
                raise TransientError(
                    f"{self._server.url} scrapes no model server in {self._namespace}, so nothing is known: {advice}"
                )
            time.sleep(PAUSE_SECONDS)

    def _refuse_halves(self) -> None:
        wanted = len(LATENCY_EDGES_SECONDS) + 1
        found: dict[Series, int] = {key[1:]: 0 for key in self._known if key[0] == COUNT}
        for key in self._known:
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


def _vector(answer: Any) -> list[tuple[dict[str, str], float, float]]:
    if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
        raise ValueError(str(answer)[:200])
    if answer.get("warnings"):  # such as a store behind it that did not answer: the rest is no evidence
        raise TransientError(f"Prometheus knows a part only: {answer['warnings']}")
    return [(each["metric"], float(each["value"][1]), float(each["value"][0])) for each in answer["data"]["result"]]
