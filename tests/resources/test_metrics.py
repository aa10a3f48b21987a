"""What the gateway's statistics mean, on pages written by hand; the real pages are in test_envoy_gateway.py."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_core.errors import IntegrityError, TransientError
from llmops_core.traffic_counts import LATENCY_EDGES_SECONDS
from resources.traffic.envoy_bootstrap import bucket_milliseconds
from resources.traffic.metrics import PREFIX, EnvoyMetrics, counts_of
from resources.traffic.prometheus_text import Sample, parse_samples


def page(*series: tuple[str, str, str, list[float]]) -> list[Sample]:
    """Series are (cluster, code, flags, milliseconds of each request)."""
    samples = []
    for cluster, code, flags, times in series:
        labels = {"deployment": cluster, "code": code, "flags": flags}
        samples.append(Sample(f"{PREFIX}requests", labels, len(times)))
        samples.append(Sample(f"{PREFIX}duration_count", labels, len(times)))
        for edge in LATENCY_EDGES_SECONDS:
            below = sum(time < edge * 1000 for time in times)
            le = {"le": f"{bucket_milliseconds(edge):g}"}
            samples.append(Sample(f"{PREFIX}duration_bucket", labels | le, below))
        samples.append(Sample(f"{PREFIX}duration_bucket", labels | {"le": "+Inf"}, len(times)))
    return samples


def test_outcomes_are_told_apart() -> None:
    counts = counts_of(
        page(
            ("atlas_2eqa-1", "200", "-", [20, 30]),
            ("atlas_2eqa-1", "429", "-", [1]),
            ("atlas_2eqa-1", "500", "-", [20]),
            ("atlas_2eqa-1", "504", "UT", [400]),
            ("atlas_2eqa-1", "503", "UF", [0]),
            ("atlas_2eqa-1", "200", "UC", [40]),
            ("atlas_2eqa-1", "0", "DC", [90]),
            ("atlas_2eqa-1", "200", "DC", [90]),
        )
    )["atlas.qa-1"]
    assert (counts.requests, counts.failures, counts.abandoned) == (7, 4, 2)
    assert counts.slow(0.1) == 3, "the timeout, the refused connection and the broken answer"


def test_a_flag_nobody_knows_is_a_failure() -> None:
    counts = counts_of(page(("one", "200", "NEW", [1]), ("one", "200", "-,NEW2", [1])))["one"]
    assert (counts.requests, counts.failures, counts.slow(300.0)) == (2, 2, 2)


def test_no_code_at_all_is_a_failure_unless_the_client_left() -> None:
    assert counts_of(page(("one", "0", "-", [1])))["one"].failures == 1
    assert counts_of(page(("one", "0", "DC,UT", [1])))["one"].abandoned == 1


def test_the_gateways_own_requests_belong_to_nobody() -> None:
    assert (
        counts_of(page(("", "404", "-", [1]), ("~admin", "200", "-", [1]), ("~ready-production-a", "200", "-", [1])))
        == {}
    )


def test_a_deployment_without_requests_is_missing_rather_than_zero() -> None:
    assert counts_of(page(("one", "200", "-", []))) == {}


class Pages:
    """An admin interface that answers with one page after the other, the last one for ever."""

    def __init__(self, *pages: str) -> None:
        self.asked = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked += 1
                content = pages[min(owner.asked, len(pages)) - 1].encode()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def metrics(self) -> EnvoyMetrics:
        return EnvoyMetrics(self.server.server_address[1] - 3)


def text(samples: list[Sample]) -> str:
    lines = []
    for sample in samples:
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
        lines.append(f"{sample.name}{{{labels}}} {sample.value}")
    return "\n".join(lines) + "\n"


def test_counts_wait_for_the_histogram_to_hold_what_the_counter_held() -> None:
    current = page(("one", "200", "-", [1, 2]))
    stale = [s for s in current if s.name == f"{PREFIX}requests"] + page(("one", "200", "-", [1]))[1:]
    pages = Pages(text(stale), text(stale), text(current))
    assert pages.metrics.counts()["one"].requests == 2
    assert pages.asked == 3


def test_a_histogram_that_never_catches_up_is_an_error_and_no_count(monkeypatch) -> None:
    monkeypatch.setattr("resources.traffic.metrics.SETTLE_LIMIT_SECONDS", 0.1)
    stale = page(("one", "200", "-", [1]))[:1]
    with pytest.raises(TransientError, match="catch up"):
        Pages(text(stale)).metrics.counts()


def test_a_page_that_cannot_be_read_is_no_empty_count() -> None:
    with pytest.raises(IntegrityError, match="cannot be read"):
        Pages(f'{PREFIX}duration_count{{deployment="a}} 1\n').metrics.counts()


def test_an_unreachable_gateway_is_a_transient_error() -> None:
    with pytest.raises(TransientError):
        EnvoyMetrics(1).counts()


@pytest.mark.parametrize(
    "line", ["a", "a{", 'a{b="c} 1', 'a{b="c"} x', "a{b=c} 1", 'a{b="c" d="e"} 1', "1a 1", "a 1 2 3"]
)
def test_a_broken_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|could not convert"):
        list(parse_samples(line))


@given(
    st.dictionaries(st.from_regex(re.compile(r"[a-z_]+", re.ASCII), fullmatch=True), st.text(), max_size=4),
    st.floats(allow_nan=False, allow_subnormal=False),
)
def test_any_label_value_survives_the_format(labels: dict[str, str], value: float) -> None:
    escaped = {k: v.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for k, v in labels.items()}
    body = ",".join(f'{name}="{content}"' for name, content in escaped.items())
    line = f"# HELP a b\na{{{body}}} {value!r}\n\n"
    assert list(parse_samples(line)) == [Sample("a", labels, value)]


def test_a_line_break_that_is_none_in_the_format_does_not_split_a_sample() -> None:
    assert list(parse_samples('a{b="x\u2028y"} 1 1700000000')) == [Sample("a", {"b": "x\u2028y"}, 1.0)]
