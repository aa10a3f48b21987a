"""Load generators must count everything that happens to a request, and nothing that does not."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmops_core.load_report import Sample
from resources.traffic import load
from resources.traffic.load import SYNTHETIC, PacedLoad, run_load


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[bytes, dict[str, str]]] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1/completions"


class Handler(BaseHTTPRequestHandler):
    """Does what the body says: a status to answer with, `slow`, `break` the connection or `cut` the answer."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.seen.append((body, {key.lower(): value for key, value in self.headers.items()}))
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        time.sleep(0.5 if body == b"slow" else 0.005)
        with self.server.lock:
            self.server.under_way -= 1
        if body == b"break":
            self.close_connection = True
            return
        self.send_response(int(body) if body.isdigit() else 200)
        self.send_header("x-llmops-version", "v2" if body == b"new" else "v1")
        self.send_header("content-length", "100" if body == b"cut" else "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = body == b"cut"

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_exactly_the_requests_asked_for_are_sent(server):
    result = run_load(server.url, [{"a": 1}, b"two"], 4, total_requests=101)
    assert len(result.samples) == len(server.seen) == 101
    assert sorted(body for body, _ in server.seen) == [b"two"] * 50 + [b'{"a": 1}'] * 51
    assert result.summary().success_rate == 1.0


def test_concurrency_is_reached_and_never_exceeded(server):
    run_load(server.url, [b"x"], 8, total_requests=100)
    assert 4 <= server.most_under_way <= 8


def test_load_ends_with_its_time(server):
    result = run_load(server.url, [b"x"], 2, duration_seconds=0.3)
    assert 0.3 <= result.elapsed_seconds < 1.5
    assert len(result.samples) > 10


def test_every_failure_is_counted_by_kind(server):
    bodies = [b"200", b"503", b"400", b"break", b"cut", b"slow"]
    summary = run_load(server.url, bodies, 6, total_requests=6, timeout_seconds=0.3).summary()
    assert (summary.total, summary.ok) == (6, 1)
    assert summary.errors == {
        "HTTP 503": 1,
        "HTTP 400": 1,
        "ServerDisconnectedError": 1,
        "ClientPayloadError": 1,
        "timeout": 1,
    }


def test_server_that_is_not_there_gives_errors_and_no_latency():
    summary = run_load("http://127.0.0.1:1/", [b"x"], 2, total_requests=4).summary()
    assert (summary.total, summary.ok, summary.success_rate) == (4, 0, 0.0)
    assert summary.p95_seconds is None
    assert summary.errors == {"ClientConnectorError": 4}


def test_versions_that_answered_are_counted(server):
    summary = run_load(server.url, [b"new", b"x", b"x"], 1, total_requests=9).summary()
    assert summary.versions == {"v1": 6, "v2": 3}


def test_headers_are_sent(server):
    run_load(server.url, [b"x"], 1, total_requests=1, headers={"host": "atlas.example.com"})
    assert server.seen[0][1]["host"] == "atlas.example.com"


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": []},
        {"concurrency": 0},
        {"total_requests": None},
        {"duration_seconds": 1.0},
    ],
)
def test_load_without_an_end_or_a_body_is_refused(wrong):
    arguments = {"requests": [b"x"], "concurrency": 1, "total_requests": 1} | wrong
    with pytest.raises(ValueError, match="a load needs"):
        run_load("http://127.0.0.1:1/", **arguments)


def test_pace_is_held_and_traffic_is_labelled(server):
    with PacedLoad(server.url, [b"x"], 50) as traffic:
        time.sleep(1)
        assert traffic.samples
    assert 35 <= len(server.seen) <= 55
    assert all(headers["x-llmops-traffic"] == "synthetic" for _, headers in server.seen)
    assert SYNTHETIC == {"x-llmops-traffic": "synthetic"}


def test_slow_answers_do_not_slow_the_pace(server):
    traffic = PacedLoad(server.url, [b"slow"], 40).start()
    time.sleep(1)
    result = traffic.stop()
    assert len(result.samples) >= 28  # one client waiting for each answer would have sent two
    assert result.summary().success_rate == 1.0


def test_stop_loses_no_request_and_may_be_repeated(server):
    traffic = PacedLoad(server.url, [b"slow"], 20).start()
    time.sleep(0.2)
    first = traffic.stop()
    assert len(first.samples) == len(server.seen) > 0
    assert traffic.stop() == first
    time.sleep(0.2)
    assert len(server.seen) == len(first.samples)


def test_stop_does_not_wait_for_the_next_due_request(server):
    traffic = PacedLoad(server.url, [b"x"], 0.01).start()
    time.sleep(0.2)
    before = time.monotonic()
    assert len(traffic.stop().samples) == 1
    assert time.monotonic() - before < 2


def test_requests_beyond_the_limit_under_way_are_counted_as_skipped(server, monkeypatch):
    monkeypatch.setattr(load, "UNDER_WAY_LIMIT", 2)
    traffic = PacedLoad(server.url, [b"slow"], 50).start()
    time.sleep(0.4)
    traffic.stop()
    assert traffic.skipped > 5
    assert server.most_under_way <= 2


def test_paced_load_that_never_started_has_no_result():
    with pytest.raises(RuntimeError):
        PacedLoad("http://127.0.0.1:1/", [b"x"], 1).stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_load_that_broke_off_is_not_taken_for_a_short_one():
    traffic = PacedLoad("http://127.0.0.1:1/", [{"not": {"json"}}], 1).start()
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match="broke off"):
        traffic.stop()


@pytest.mark.parametrize(("requests", "pace"), [([], 1.0), ([b"x"], 0.0)])
def test_paced_load_without_body_or_pace_is_refused(requests, pace):
    with pytest.raises(ValueError, match="paced load needs"):
        PacedLoad("http://127.0.0.1:1/", requests, pace)


def test_answer_that_breaks_off_is_no_success():
    assert not Sample(0.1, status=200, error="ClientPayloadError").ok
