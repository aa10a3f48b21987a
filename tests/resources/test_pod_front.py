"""The proxy in a model server's pod: what it counts is a canary's evidence, so nothing may get past it uncounted."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_core.serving_settings import PrometheusServer
from llmops_core.traffic_counts import TrafficCounts
from resources.serving import pod_front
from resources.traffic.prometheus_metrics import PrometheusMetrics
from tests.fakes.model_server import ModelServer
from tests.fakes.platform import Answer, serving
from tests.fakes.played_prometheus import PlayedPrometheus
from tests.fakes.ports import free_port
from tests.fakes.serving_clusters import started

NAME = "llama-3.1-production-v1-1a2b3c4d"


class Pod:
    def __init__(self, folder: Path) -> None:
        self.engine, self.port = ModelServer(NAME), free_port()
        self.deployment = serving(self.engine, "llama-3.1", timeout_seconds=0.5)
        self.program = started(
            pod_front.bootstrap(self.deployment, "127.0.0.1", self.port, folder / "admin", "boot"), self.port
        )
        self.prometheus = PlayedPrometheus("llm", lambda: [f"http://127.0.0.1:{self.port}/metrics"])

    def ask(self, path: str, method: str = "POST", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, b"{}" if method == "POST" else None, sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def counts(self) -> TrafficCounts | None:
        server = PrometheusServer.model_construct(url=self.prometheus.url, token=None)
        return PrometheusMetrics(server, "llm", 0).counts().get(NAME)

    def end(self) -> None:
        self.engine.end()
        self.prometheus.end()
        self.program.terminate()
        self.program.wait()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    made = Pod(tmp_path)
    yield made
    made.end()


def test_a_failure_was_not_counted_or_looked_fast(pod: Pod) -> None:
    assert pod.counts() is None, "probes and pages are no evidence"
    answers = [pod.ask("/v1/completions").status, pod.ask("/v1/completions", x_test_status="500").status]
    answers += [
        pod.ask("/v1/completions", x_test_seconds="1").status,
        pod.ask("/v1/completions", x_test_break="reset").status,
    ]
    assert answers == [200, 500, 504, 503]
    with pytest.raises(http.client.IncompleteRead):
        pod.ask("/v1/completions", x_test_break="middle")
    pod.engine.end()
    assert pod.ask("/v1/completions").status == 503 and pod.ask("/ready", "GET").status == 503
    counts = pod.counts()
    assert counts is not None and (counts.requests, counts.failures, counts.abandoned) == (6, 5, 0)
    assert counts.slow(0.4) == 4, "of the failures only one was answered soon by the engine"


def test_an_answer_said_what_the_engine_says_of_itself(pod: Pod) -> None:
    for headers in ({}, {"x_test_status": "503"}, {"x_test_break": "reset"}):
        answer = pod.ask("/v1/completions", **headers)
        told = [answer.headers[f"x-llmops-{name}"] for name in ("model", "version", "weights-digest")]
        assert told == ["llama-3.1", f"version of {NAME}", "d" * 64]


def test_something_besides_questions_reached_the_engine(pod: Pod) -> None:
    for path in ("/", "/metrics/engine", "/health/x", "/slots", "/v1", "/models"):
        assert pod.ask(path, "GET").status == 404
    assert pod.ask("/health", "GET").status == pod.ask("/ready", "GET").status == 200
    assert pod.ask("/metrics", "GET").body.startswith(b"# TYPE envoy_")
    assert pod.engine.seen == 0 and pod.counts() is None


def test_readiness_was_the_proxys_own(pod: Pod) -> None:
    pod.engine.healthy = False
    assert (pod.ask("/health", "GET").status, pod.ask("/ready", "GET").status) == (200, 503)


def test_a_start_did_not_get_a_name_of_its_own(tmp_path: Path) -> None:
    told = {"name": NAME, "model": "m", "version": "1", "weights_digest": "d" * 64, "timeout_seconds": 1.0}
    environ = {"LLMOPS_FRONT": json.dumps(told), "LLMOPS_PORTS": "8000 8001", "POD_IP": "10.0.0.7"}
    command = pod_front.command({**environ, "LLMOPS_WORK": str(tmp_path / "work")}, "first")
    document = json.loads(command[command.index("--config-yaml") + 1])
    (listener,) = document["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "10.0.0.7", "port_value": 8000}
    assert '"value_format": "first"' in json.dumps(document) and (tmp_path / "work").is_dir()
