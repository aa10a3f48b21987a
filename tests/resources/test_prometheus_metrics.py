"""Counts by way of Prometheus: what is missing says nothing, and pods that come and go take nothing with them."""

import time
from collections.abc import Iterator

import pytest

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.platform_settings import Secret
from llmops_core.serving_settings import PrometheusServer
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS
from resources.traffic.envoy_bootstrap import bucket_milliseconds
from resources.traffic.envoy_config import cluster_name
from resources.traffic.metrics import PREFIX
from resources.traffic.prometheus_metrics import PrometheusMetrics
from resources.traffic.prometheus_text import Sample
from tests.fakes.played_prometheus import PlayedPrometheus

NAMESPACE, NAME = "llm", "llama-3.1-production-v1"


class Pages:
    """Pods' pages, as Prometheus has them: one histogram for each pod, code and flags."""

    def __init__(self) -> None:
        self.alive = ["a", "b"]
        self.at: float | None = None
        self.prometheus = PlayedPrometheus(NAMESPACE, lambda: [])
        self.prometheus.scrape = lambda: self.alive  # type: ignore[method-assign]

    def pod(self, boot: str, code: str = "200", flags: str = "-", faster: int = 0, all_of: int = 0) -> None:
        labels = {"boot": boot, "deployment": cluster_name(NAME), "code": code, "flags": flags, "pod": boot}
        self._put("count", labels, all_of)
        for edge in LATENCY_EDGES_SECONDS:
            self._put("bucket", labels | {"le": f"{bucket_milliseconds(edge):g}"}, faster if edge >= 0.5 else 0)
        self._put("bucket", labels | {"le": "+Inf"}, all_of)

    def _put(self, part: str, labels: dict[str, str], value: int) -> None:
        name = f"{PREFIX}duration_{part}"
        self.prometheus.keep(Sample(name, labels, value), self.at)

    def metrics(self, **more: object) -> PrometheusMetrics:
        server = PrometheusServer.model_construct(url=self.prometheus.url, token=None)
        return PrometheusMetrics(server.model_copy(update=more), NAMESPACE, 0, 0.3)


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.prometheus.end()


def test_pods_of_one_deployment_were_not_summed(pages: Pages) -> None:
    pages.pod("a", faster=8, all_of=10)
    pages.pod("b", faster=5, all_of=5)
    pages.pod("b", "504", "UT", all_of=3)
    pages.pod("b", "200", "DC", all_of=2)
    (counts,) = pages.metrics().counts().values()
    assert (counts.requests, counts.failures, counts.abandoned, counts.slow(0.5)) == (18, 3, 2, 5)


def test_a_pod_that_went_took_its_failures_with_it(pages: Pages) -> None:
    """And what it, or another, had counted before: more than a day ago, or by a start of the proxy that is over."""
    now = time.time()
    pages.at = now - 3 * 86400
    pages.pod("old", "503", all_of=70)
    pages.at = now - 2 * 86400 - 10
    pages.pod("a", "503", all_of=30)
    pages.pod("b", faster=5, all_of=5)
    since = now - 2 * 86400
    pages.at = since + 60
    pages.pod("a", "503", all_of=34)
    pages.at = now - 1
    pages.pod("b", faster=6, all_of=7)
    pages.pod("b again", faster=1, all_of=1)
    for asked in (pages.metrics(), pages.metrics()):  # whatever process
        counts = asked.counts(since)[NAME]
        assert (counts.requests, counts.failures, counts.slow(0.5)) == (7, 4, 5)


def test_what_was_answered_before_was_evidence(pages: Pages) -> None:
    pages.at = time.time() - 100
    pages.pod("a", "503", all_of=30)
    metrics = pages.metrics()
    assert metrics.counts(metrics.now()) == {} and metrics.counts()[NAME].requests == 30


def test_a_start_that_a_changed_monitor_labels_anew_was_counted_twice(pages: Pages) -> None:
    pages.pod("a", "503", all_of=4)
    for key, ((_, sample),) in list(pages.prometheus.known.items()):
        again = Sample(sample.name, {**sample.labels, "job": "another"}, sample.value + 1)
        pages.prometheus.keep(again)
        assert key != (sample.name, *sorted(again.labels.items()))
    assert pages.metrics().counts()[NAME].requests == 5


def test_a_pod_whose_scrape_fails_was_called_scraped(pages: Pages) -> None:
    assert pages.metrics().scraped() == {"a", "b"}
    pages.alive = ["a"]
    assert pages.metrics().scraped() == {"a"}
    with pytest.raises(TransientError, match="does not scrape b"):
        pages.metrics().settle({"a", "b"})


def test_counts_were_called_settled_before_two_scrapes_more(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.traffic.prometheus_metrics.PAUSE_SECONDS", 0.001)
    scrapes: list[float] = []
    pages.prometheus.scrape = lambda: scrapes.append(time.time()) or ["a"]  # type: ignore[method-assign]
    pages.metrics().settle({"a"})
    assert len(scrapes) >= 3


def test_servers_that_nobody_scrapes_were_called_quiet(pages: Pages) -> None:
    pages.alive = []
    with pytest.raises(TransientError, match=r"scrapes no model server in llm, so nothing is known"):
        pages.metrics().counts()
    pages.alive = ["a"]
    assert pages.metrics().counts() == {}


def test_half_of_a_histogram_was_counted(pages: Pages) -> None:
    pages.pod("a", "503", all_of=4)
    pages.prometheus.half = True
    with pytest.raises(IntegrityError, match="a part of the histogram"):
        pages.metrics().counts()
    pages.prometheus.half = False
    pages.prometheus.known = {key: one for key, one in pages.prometheus.known.items() if "count" not in key[0]}
    with pytest.raises(IntegrityError, match="a part of the histogram"):
        pages.metrics().counts()


def test_a_store_behind_it_that_did_not_answer_was_left_out(pages: Pages) -> None:
    pages.prometheus.warnings = ["store eu-2 is down"]
    with pytest.raises(TransientError, match="store eu-2 is down"):
        pages.metrics().counts()


@pytest.mark.parametrize("status", [500, 503, 422])
def test_an_answer_that_is_an_error_was_taken_as_no_failures(pages: Pages, status: int) -> None:
    pages.prometheus.status = status
    with pytest.raises(TransientError, match=str(status)):
        pages.metrics().counts()


def test_a_token_was_not_sent(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.prometheus.token = "s3cret"
    with pytest.raises(EnvironmentLacks, match=r"serving\.prometheus\.token"):
        pages.metrics().counts()
    monkeypatch.setenv("PROMETHEUS_TOKEN", "s3cret")
    assert pages.metrics(token=Secret(env="PROMETHEUS_TOKEN")).counts() == {}


def test_a_prometheus_that_is_gone_was_called_quiet(pages: Pages) -> None:
    metrics = pages.metrics(url="http://127.0.0.1:9")
    with pytest.raises(TransientError, match="cannot be reached"):
        metrics.counts()
