"""A load report must never turn missing evidence into a good figure."""

from hypothesis import given
from hypothesis import strategies as st

from llmops_core.load_report import Sample, summarise

latencies = st.floats(0, 100)
samples = st.builds(
    Sample,
    latency_seconds=latencies,
    status=st.none() | st.sampled_from([200, 204, 301, 400, 429, 500, 503]),
    error=st.none() | st.just("timeout"),
    version=st.none() | st.sampled_from(["v1", "v2"]),
)


def test_no_requests_say_nothing():
    summary = summarise([], elapsed_seconds=3.0)
    assert summary.total == 0
    assert summary.success_rate is summary.p50_seconds is summary.p99_seconds is summary.requests_per_second is None


def test_fast_errors_do_not_make_a_slow_server_look_quick():
    summary = summarise([Sample(0.001, 503)] * 99 + [Sample(2.0, 200)])
    assert (summary.p50_seconds, summary.success_rate) == (2.0, 0.01)
    assert summary.errors == {"HTTP 503": 99}


def test_quantiles_of_a_known_sample():
    summary = summarise([Sample(number / 100, 200) for number in range(101)], elapsed_seconds=10.1)
    assert (summary.p50_seconds, summary.p95_seconds, summary.p99_seconds) == (0.5, 0.95, 0.99)
    assert summary.requests_per_second is not None
    assert abs(summary.requests_per_second - 10) < 1e-9


def test_sample_with_neither_status_nor_error_is_no_success():
    assert summarise([Sample(0.1)]).ok == 0


@given(st.lists(samples, max_size=50))
def test_every_sample_is_either_a_success_or_one_error(some):
    summary = summarise(some)
    assert summary.ok + sum(summary.errors.values()) == summary.total == len(some)
    assert sum(summary.versions.values()) == sum(sample.version is not None for sample in some)


@given(st.lists(samples, min_size=1, max_size=50))
def test_quantiles_are_ordered_and_within_the_successes(some):
    summary = summarise(some)
    good = [sample.latency_seconds for sample in some if sample.ok]
    if not good:
        assert summary.p50_seconds is None
        return
    assert summary.p50_seconds is not None and summary.p95_seconds is not None and summary.p99_seconds is not None
    assert min(good) <= summary.p50_seconds <= summary.p95_seconds <= summary.p99_seconds <= max(good)
