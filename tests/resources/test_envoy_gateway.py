"""Envoy as the gateway: what clients see, and what must not happen while routes change."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from llmops_core.errors import EnvironmentLacks, IntegrityError, TransientError
from llmops_core.routing import RouteTable
from resources.host.processes import SupervisorProcesses
from resources.storage.publishing import publish_json, read_json
from resources.traffic import envoy_config
from resources.traffic.metrics import EnvoyMetrics
from resources.traffic.traffic import EnvoyGateway
from tests.fakes.model_server import ModelServer
from tests.fakes.platform import (
    DIGEST,
    Answer,
    Platform,
    deployment,
    route,
    running_platform,
    serving,
    table,
)
from tests.fakes.ports import free_port_base


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with running_platform() as started:
        yield started


@pytest.fixture
def server(request: pytest.FixtureRequest, platform: Platform) -> Iterator[Callable[..., ModelServer]]:
    """Makes servers whose names carry the test's."""
    made: list[ModelServer] = []

    def make(name: str = "baseline") -> ModelServer:
        made.append(ModelServer(f"{request.node.name}.{name}"))
        return made[-1]

    yield make
    platform.gateway.apply(RouteTable())
    for one in made:
        one.end()


def error_of(answer: Answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    return answer.status, answer.json["error"]["code"]


def test_weights_are_kept_within_binomial_bounds(platform: Platform, server) -> None:
    baseline, candidate = server(), server("candidate")
    platform.gateway.apply(table(route((serving(baseline), 90), (serving(candidate), 10))))
    versions = Counter(platform.ask("/v1/completions", {}).headers["x-llmops-version"] for _ in range(600))
    seen = versions[serving(candidate).version]
    assert stats.binomtest(seen, 600, 0.10).pvalue > 1e-6, versions
    assert candidate.seen == seen
    assert baseline.seen == 600 - seen


def test_the_model_is_chosen_by_body_then_path_then_default(platform: Platform, server) -> None:
    atlas, llama = server("atlas"), server("llama")
    platform.gateway.apply(table(route((serving(llama, "llama-3.1-8b"), 100)), route((serving(atlas), 100))))

    def answered(path: str, body: Any, **headers: str) -> tuple[str, str]:
        answer = platform.ask(path, body, **headers).json
        return answer["server"].split(".")[-1], answer["path"]

    assert answered("/v1/chat/completions", {"model": "llama-3.1-8b"}) == ("llama", "/v1/chat/completions")
    assert answered("/v1/completions?a=1", {"model": "atlas-qa"}) == ("atlas", "/v1/completions?a=1")
    assert answered("/v1/completions", {"prompt": "Capital of Peru?"}) == ("atlas", "/v1/completions")
    assert answered("/models/llama-3.1-8b/v1/completions", {"model": "atlas-qa"}) == ("llama", "/v1/completions")
    as_form = answered("/v1/completions", {"model": "llama-3.1-8b"}, content_type="application/x-www-form-urlencoded")
    with_charset = answered(
        "/v1/completions", {"model": "llama-3.1-8b"}, content_type="application/json; charset=utf-8"
    )
    assert as_form == with_charset == ("llama", "/v1/completions")


def test_staging_is_reached_by_header_and_by_path_only(platform: Platform, server) -> None:
    production, staging = server(), server("staging")
    platform.gateway.apply(
        table(route((serving(production), 100)), route((serving(staging), 100), environment="staging"))
    )

    def answered(path: str, **headers: str) -> str:
        return platform.ask(path, {"model": "atlas-qa"}, **headers).json["server"].split(".")[-1]

    assert answered("/v1/completions") == "baseline"
    assert answered("/v1/completions", x_llmops_environment="production") == "baseline"
    assert answered("/v1/completions", x_llmops_environment="staging") == "staging"
    assert answered("/staging/v1/completions") == "staging"
    assert answered("/staging/models/atlas-qa/v1/completions") == "staging"
    assert answered("/models/atlas-qa/v1/completions", x_llmops_environment="staging") == "staging"
    strange = platform.ask("/v1/completions", {}, x_llmops_environment="stagin")
    assert error_of(strange) == (400, "no_such_environment")


def test_staging_without_a_route_never_falls_through_to_production(platform: Platform, server) -> None:
    production = server()
    platform.gateway.apply(table(route((serving(production), 100))))
    for path in ("/v1/completions", "/models/atlas-qa/v1/completions", "/staging/v1/completions"):
        assert platform.ask(path, {"model": "atlas-qa"}, x_llmops_environment="staging").status == 404
    assert platform.ask("/ready", x_llmops_environment="staging").status == 503
    assert production.seen == 0


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/completions", {"model": "gpt-unknown"}, (404, "model_not_found")),
        ("/v1/completions", {"model": ""}, (404, "model_not_found")),
        ("/v1/completions", {"model": "atlas-q"}, (404, "model_not_found")),
        ("/models/gpt-unknown/v1/completions", {}, (404, "model_not_found")),
        ("/v1/completions", b'{"model": ', (400, "invalid_json")),
        ("/v1/completions", b"\xff\xfe\x00", (400, "invalid_json")),
        (
            "/v1/completions",
            b'{"model":"atlas-qa","a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
            (400, "invalid_json"),
        ),
        ("/v1/completions", b" " * (1 << 20) + b"{}", (413, "request_payload_too_large")),
        ("/nothing/here", None, (404, "not_found")),
        ("/config_dump", None, (404, "not_found")),
        ("/stats", None, (404, "not_found")),
        ("/metrics/../config_dump", None, (404, "not_found")),
        ("/metrics/quitquitquit", None, (404, "not_found")),
    ],
)
def test_what_cannot_be_served_gets_an_error_of_openai_shape(platform: Platform, server, path, body, expected) -> None:
    only = server()
    platform.gateway.apply(table(route((serving(only), 100))))
    answer = platform.ask(path, body)
    assert error_of(answer) == expected
    assert not [name for name in answer.headers if name.startswith("x-llmops")], "no deployment answered"
    assert only.seen == 0
    assert only.name not in platform.metrics.counts(), "charged to a deployment that never saw it"


def test_a_body_just_below_the_limit_passes(platform: Platform, server) -> None:
    platform.gateway.apply(table(route((serving(server()), 100))))
    body = {"model": "atlas-qa", "prompt": "x" * ((1 << 20) - 100)}
    assert platform.ask("/v1/completions", body).json["body_bytes"] > 1_000_000


def test_metrics_cannot_be_posted_to(platform: Platform) -> None:
    assert platform.ask("/metrics", b"", method="POST").status == 404
    assert platform.ask("/metrics").body.startswith(b"# TYPE envoy")


def test_identity_headers_name_who_answered_and_cannot_be_spoofed(platform: Platform, server) -> None:
    only = server()
    platform.gateway.apply(table(route((serving(only), 100))))
    spoof = {"x_llmops_version": "mine", "x_llmops_weights_digest": "mine", "X_LLMOPS_MODEL": "mine"}
    answer = platform.ask("/v1/completions", {}, **spoof)
    assert not [name for name in answer.json["headers"] if name.startswith("x-llmops")]
    identity = [answer.headers[name] for name in envoy_config.IDENTITY_HEADERS]
    assert identity == ["atlas-qa", f"version of {only.name}", DIGEST]
    assert "x-llmops-version" not in platform.ask("/ready").headers


@pytest.mark.parametrize("told", [{"x_test_seconds": "1.5"}, {"x_test_break": "reset"}, {"x_test_status": "500"}])
def test_failures_name_the_deployment_and_are_not_retried(platform: Platform, server, told) -> None:
    candidate = server("candidate")
    platform.gateway.apply(table(route((serving(candidate, timeout_seconds=0.4), 100))))
    answer = platform.ask("/v1/completions", {}, **told)
    assert answer.status >= 500
    assert answer.headers["x-llmops-version"] == f"version of {candidate.name}"
    assert candidate.seen == 1


def test_a_client_cannot_lengthen_the_timeout_or_order_retries(platform: Platform, server) -> None:
    only = server()
    platform.gateway.apply(table(route((serving(only, timeout_seconds=0.3), 100))))
    orders = {"x_envoy_upstream_rq_timeout_ms": "9000", "x_envoy_retry_on": "5xx,reset", "x_envoy_max_retries": "5"}
    assert platform.ask("/v1/completions", {}, x_test_seconds="1", **orders).status == 504
    assert platform.ask("/v1/completions", {}, x_test_break="reset", **orders).status == 503
    assert only.seen == 2


def test_each_way_to_fail_is_counted_as_failed_and_as_slow(platform: Platform, server) -> None:
    broken = server("broken")
    gone = deployment(f"{broken.name}-gone", 1)
    listed = serving(broken, timeout_seconds=0.4)
    platform.gateway.apply(table(route((listed, 100)), route((gone, 100), environment="staging")))
    assert platform.ask("/v1/completions", {}, x_test_seconds="1").status == 504
    assert platform.ask("/v1/completions", {}, x_test_break="reset").status == 503
    with pytest.raises(http.client.IncompleteRead):
        platform.ask("/v1/completions", {}, x_test_break="middle")
    assert platform.ask("/staging/v1/completions", {}).status == 503
    counts = platform.metrics.counts()
    assert (counts[broken.name].requests, counts[broken.name].failures) == (3, 3)
    assert counts[broken.name].slow(300.0) == 3
    assert (counts[gone.name].requests, counts[gone.name].failures, counts[gone.name].slow(300.0)) == (1, 1, 1)


def test_a_client_that_left_is_no_success_and_no_failure(platform: Platform, server) -> None:
    only = server()
    platform.gateway.apply(table(route((serving(only), 100))))
    connection = http.client.HTTPConnection("127.0.0.1", platform.port_base, timeout=0.2)
    connection.request("POST", "/v1/completions", b"{}", {"x-test-seconds": "1"})
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    deadline = time.monotonic() + 3
    while only.name not in (counts := platform.metrics.counts()):
        assert time.monotonic() < deadline
    assert (counts[only.name].abandoned, counts[only.name].requests, counts[only.name].failures) == (1, 0, 0)


def test_latency_edges_are_exact(platform: Platform, server) -> None:
    """509 ms is not faster than 0.5 s, although Envoy's own bucket of 500 would take it in."""
    only = server()
    platform.gateway.apply(table(route((serving(only), 100))))
    for seconds in (0.44, 0.503, 0.0):
        assert platform.ask("/v1/completions", {}, x_test_seconds=str(seconds)).status == 200
    counts = platform.metrics.counts()[only.name]
    assert (counts.requests, counts.slow(0.5), counts.slow(0.25), counts.slow(0.75)) == (3, 1, 2, 0)


def test_readiness_follows_the_servers(platform: Platform, server) -> None:
    assert platform.ask("/ready").status == 503
    first, second = server(), server("second")
    platform.gateway.apply(table(route((serving(first), 50), (serving(second), 50))))
    first.healthy = False
    assert [platform.ask("/ready").status for _ in range(6)] == [200] * 6, "one of two is healthy"
    second.healthy = False
    assert platform.ask("/ready").status == 503
    assert platform.ask("/models/atlas-qa/ready").status == 503
    second.healthy = True
    assert platform.ask("/models/atlas-qa/ready").status == 200
    assert platform.ask("/models/unknown/ready").status == 404
    assert platform.ask("/health").status == 200
    assert first.name not in platform.metrics.counts(), "asking for readiness is no traffic"


def test_a_warm_server_without_traffic_does_not_make_a_model_ready(platform: Platform, server) -> None:
    dead, warm = deployment("dead", 1), server("warm")
    platform.gateway.apply(table(route((dead, 100), (serving(warm), 0))))
    assert platform.ask("/ready").status == 503


def test_models_are_listed_by_environment(platform: Platform, server) -> None:
    one, two = server(), server("two")
    platform.gateway.apply(
        table(route((serving(one, "llama-3.1-8b"), 100)), route((serving(two), 100), environment="staging"))
    )
    listed = platform.ask("/v1/models").json
    assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["llama-3.1-8b"])
    assert [model["id"] for model in platform.ask("/models", x_llmops_environment="staging").json["data"]] == [
        "atlas-qa"
    ]
    assert platform.ask("/staging/v1/models").json["data"][0]["id"] == "atlas-qa"


def test_hundreds_of_models_can_be_listed(platform: Platform) -> None:
    many = (route((deployment(f"m{number}-1", 1, model=f"m{number}"), 100)) for number in range(400))
    platform.gateway.apply(table(*many))
    assert len(platform.ask("/v1/models").json["data"]) == 400
    assert error_of(platform.ask("/v1/completions", {"model": "m400"})) == (404, "model_not_found")
    platform.gateway.apply(RouteTable())


class Load:
    """Requests without pause on a few connections, until told to stop."""

    def __init__(self, platform: Platform, threads: int = 4) -> None:
        self.statuses: Counter[str] = Counter()
        self._platform = platform
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._platform.port_base, timeout=10)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/v1/completions", b'{"model":"atlas-qa"}', {"x-test-seconds": "0.01"})
                response = connection.getresponse()
                response.read()
                self.statuses[str(response.status)] += 1
            except OSError as error:
                self.statuses[repr(error)] += 1
                connection.close()


def test_no_request_fails_while_weights_change_and_servers_are_replaced(platform: Platform, server) -> None:
    baseline, candidate = server(), server("candidate")
    old, new = serving(baseline), serving(candidate)
    platform.gateway.apply(table(route((old, 100))))
    with Load(platform) as load:
        for weight in (10, 25, 50, 90, 100, 50, 100):
            platform.gateway.apply(table(route((old, 100 - weight), (new, weight))))
        platform.gateway.apply(table(route((new, 100))))
        baseline.end()  # nothing may be on its way to it any more
        for number in range(3):
            replacement = server(f"replacement{number}")
            platform.gateway.apply(table(route((serving(replacement), 100))))
            candidate.end()
            candidate = replacement
    assert set(load.statuses) == {"200"}, load.statuses
    assert load.statuses["200"] > 50
    counts = platform.metrics.counts()
    counted = [count for name, count in counts.items() if name.startswith("test_no_request_fails_while")]
    assert sum(count.requests for count in counted) == load.statuses["200"]
    assert sum(count.failures + count.abandoned for count in counted) == 0


def test_apply_waits_for_requests_on_their_way_to_a_dropped_server(platform: Platform, server) -> None:
    old, new = server("old"), server("new")
    platform.gateway.apply(table(route((serving(old), 100))))
    answers: list[Answer] = []
    slow = threading.Thread(target=lambda: answers.append(platform.ask("/v1/completions", {}, x_test_seconds="0.8")))
    slow.start()
    while old.seen == 0:
        time.sleep(0.01)
    platform.gateway.apply(table(route((serving(new), 100))))
    old.end()
    slow.join()
    assert [answer.status for answer in answers] == [200]


def test_applying_the_same_table_again_writes_nothing(platform: Platform, server) -> None:
    wanted = table(route((serving(server()), 100)))
    platform.gateway.apply(wanted)
    files = [file for file in (platform.home / "gateway").rglob("*.json")]
    before = {file: file.stat().st_mtime_ns for file in files}
    platform.gateway.apply(wanted)
    assert before == {file: file.stat().st_mtime_ns for file in files}


def test_a_refused_configuration_raises_envoys_words_and_the_old_rules_on(
    platform: Platform, server, monkeypatch
) -> None:
    good = table(route((serving(server()), 100)))
    platform.gateway.apply(good)
    before = read_json(platform.home / "gateway" / "rds" / "routes.json")
    monkeypatch.setattr(envoy_config, "longest_timeout_seconds", lambda _: -3.0)
    with pytest.raises(IntegrityError, match="positive duration"):
        platform.gateway.apply(table(route((serving(server("other")), 100))))
    monkeypatch.undo()
    assert platform.gateway.current() == good
    assert read_json(platform.home / "gateway" / "rds" / "routes.json") == before
    assert platform.ask("/v1/completions", {}).status == 200
    platform.gateway.apply(RouteTable())


@pytest.mark.parametrize("killed_at", range(1, 8))
def test_an_apply_killed_anywhere_is_mended_by_the_next(
    platform: Platform, server, monkeypatch, killed_at: int
) -> None:
    import resources.traffic.traffic as traffic

    old, new = server("old"), server("new")
    platform.gateway.apply(table(route((serving(old), 100))))
    wanted = table(route((serving(new), 100)))
    calls = 0

    def dying(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise KeyboardInterrupt
        publish_json(*arguments)

    monkeypatch.setattr(traffic, "publish_json", dying)
    if killed_at <= 4:
        with pytest.raises(KeyboardInterrupt):
            platform.gateway.apply(wanted)
    else:
        platform.gateway.apply(wanted)
    monkeypatch.undo()
    assert platform.ask("/v1/completions", {}).status == 200
    platform.gateway.apply(wanted)
    assert platform.gateway.current() == wanted
    assert platform.ask("/v1/completions", {}).json["server"] == new.name
    assert {one["name"] for one in read_json(platform.home / "gateway" / "cds" / "clusters.json")["resources"]} == {
        envoy_config.cluster_name(new.name),
        "~ready-production-atlas-qa",
    }


def test_the_last_table_is_served_after_everything_was_killed() -> None:
    with running_platform() as platform:
        only = ModelServer("only")
        wanted = table(route((serving(only), 100)))
        platform.gateway.apply(wanted)
        keeper = int((platform.home / "supervisor" / "supervisord.pid").read_text())
        envoy = platform.processes.state_of("gateway").pid
        os.kill(keeper, signal.SIGKILL)
        processes = SupervisorProcesses(platform.home)
        processes.start()
        EnvoyGateway(platform.home, platform.port_base, processes).start()
        assert processes.state_of("gateway").pid != envoy
        assert platform.ask("/v1/completions", {}).json["server"] == "only"
        os.kill(processes.state_of("gateway").pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while not _answers(platform):
            assert time.monotonic() < deadline
        assert platform.gateway.current() == wanted
        platform.processes.stop()
        with pytest.raises(TransientError):
            platform.metrics.counts()
        with pytest.raises(TransientError, match="start the platform"):
            platform.gateway.apply(RouteTable())
        only.end()


def _answers(platform: Platform) -> bool:
    try:
        return platform.ask("/v1/completions", {}).status == 200
    except OSError:
        time.sleep(0.05)
        return False


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    processes, base = SupervisorProcesses(tmp_path), free_port_base()
    processes.start()
    try:
        with socket.socket() as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            foreign.bind(("127.0.0.1", base + 3))
            foreign.listen()
            with pytest.raises(EnvironmentLacks, match=f"port {base + 3} .* LLMOPS_PORT_BASE"):
                EnvoyGateway(tmp_path, base, processes).start()
    finally:
        processes.stop()


def test_a_foreign_answer_on_the_port_is_not_taken_for_the_gateway(tmp_path: Path) -> None:
    foreign = ModelServer("foreign")
    try:
        gateway = EnvoyGateway(tmp_path, foreign.port, SupervisorProcesses(tmp_path))
        with pytest.raises(TransientError, match="does not answer"):
            gateway.apply(RouteTable())
    finally:
        foreign.end()


def test_garbage_on_the_port_does_not_spoil_the_counts(platform: Platform, server) -> None:
    only = server()
    platform.gateway.apply(table(route((serving(only), 100))))
    no_length = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n"
    for garbage in (b"\x16\x03\x01 no http\r\n\r\n", no_length):
        with socket.create_connection(("127.0.0.1", platform.port_base), timeout=5) as connection:
            connection.sendall(garbage)
            connection.recv(1000)
    headers = {f"x_filler_{number}": "x" * 8000 for number in range(8)}
    assert platform.ask("/v1/completions", {}, **headers).status == 431
    assert platform.ask("/v1/completions", {}).status == 200
    assert platform.metrics.counts()[only.name].requests == 1


def test_a_damaged_table_is_an_integrity_error(tmp_path: Path) -> None:
    gateway = EnvoyGateway(tmp_path, 1024, SupervisorProcesses(tmp_path))
    assert gateway.current() == RouteTable()
    (tmp_path / "gateway").mkdir(exist_ok=True)
    for damage in ("{", json.dumps({"routes": [{"model": "a"}]})):
        (tmp_path / "gateway" / "routes.json").write_text(damage)
        with pytest.raises(IntegrityError):
            gateway.current()


def test_counts_since_a_restart_are_whole(platform: Platform, server) -> None:
    only = server()
    platform.gateway.apply(table(route((serving(only), 100))))
    for _ in range(5):
        platform.ask("/v1/completions", {})
    before = EnvoyMetrics(platform.port_base).counts()[only.name]
    os.kill(platform.processes.state_of("gateway").pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not _answers(platform):
        assert time.monotonic() < deadline
    after = EnvoyMetrics(platform.port_base).counts()[only.name]
    assert (before.requests, after.minus(before).requests) == (5, 1)
