"""What a real Prometheus answers to our queries: pods that come and go, scrapes that fail, and moments."""

import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmops_core.errors import TransientError
from llmops_core.serving_settings import PrometheusServer
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS
from resources.traffic.envoy_bootstrap import bucket_milliseconds
from resources.traffic.envoy_config import cluster_name
from resources.traffic.metrics import PREFIX
from resources.traffic.prometheus_metrics import PrometheusMetrics
from tests.fakes.ports import free_port

NAME = "llama-3.1-production-v1"
CONFIGURATION = """
global: {{scrape_interval: 300ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: fronts
    static_configs:
{targets}
"""
pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus: apt-get install prometheus")


class Pod:
    """A front's page: `boot` is this start's, `failed` how many requests it has turned away. `status` of 500 is a
    scrape that fails."""

    def __init__(self, name: str) -> None:
        self.name, self.boot, self.failed, self.status = name, f"{name}-1", 0, 200
        handler = type("Handler", (_Page,), {"pod": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def page(self) -> str:
        labels = f'boot="{self.boot}",deployment="{cluster_name(NAME)}",code="503",flags="UF"'
        edges = [f"{bucket_milliseconds(edge):g}" for edge in LATENCY_EDGES_SECONDS]
        buckets = [f'{PREFIX}duration_bucket{{{labels},le="{edge}"}} 0' for edge in edges]
        whole = [f'{PREFIX}duration_bucket{{{labels},le="+Inf"}} {self.failed}']
        live = ["# TYPE envoy_server_live gauge", "envoy_server_live{} 1"]
        whole += [f"{PREFIX}duration_sum{{{labels}}} 0", f"{PREFIX}duration_count{{{labels}}} {self.failed}"]
        return "\n".join([f"# TYPE {PREFIX}duration histogram", *buckets, *whole, *live, ""])


class _Page(BaseHTTPRequestHandler):
    pod: Pod

    def do_GET(self) -> None:
        content = self.pod.page().encode()
        self.send_response(self.pod.status)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def pods() -> Iterator[tuple[Pod, Pod]]:
    made = Pod("one"), Pod("two")
    yield made
    for pod in made:
        pod.server.shutdown()
        pod.server.server_close()


@pytest.fixture
def url(pods: tuple[Pod, Pod], tmp_path: Path) -> Iterator[str]:
    targets = "".join(
        f"      - {{targets: ['127.0.0.1:{pod.server.server_port}'], labels: {{namespace: llm, pod: {pod.name}}}}}\n"
        for pod in pods
    )
    (tmp_path / "prometheus.yml").write_text(CONFIGURATION.format(targets=targets))
    port = free_port()
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    program = subprocess.Popen(
        ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{address}/-/ready", timeout=5).close()
            break
        except OSError:
            time.sleep(0.05)
    yield address
    program.terminate()
    program.wait()


def test_a_prometheus_did_not_answer_as_the_one_that_is_played(
    url: str, pods: tuple[Pod, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.traffic.prometheus_metrics.PAUSE_SECONDS", 0.05)
    server = PrometheusServer.model_construct(url=url, token=None)

    def metrics() -> PrometheusMetrics:
        return PrometheusMetrics(server, "llm", 20, 2)  # it looks for targets every five seconds

    one, two = pods
    one.failed, two.failed = 30, 7
    metrics().now()
    metrics().settle({"one", "two"})
    since = metrics().now()
    assert metrics().counts(since) == {} and metrics().counts()[NAME].failures == 37
    one.failed += 2
    metrics().settle({"one", "two"})
    two.boot, two.failed = "two-2", 5  # the proxy was started again; what it had counted was before
    metrics().settle({"one", "two"})
    assert metrics().counts(since)[NAME].failures == 7 and metrics().scraped() == {"one", "two"}
    two.status = 500
    time.sleep(0.7)
    assert metrics().scraped() == {"one"} and metrics().counts(since)[NAME].failures == 7
    with pytest.raises(TransientError, match="does not scrape two"):
        metrics().settle({"one", "two"})
