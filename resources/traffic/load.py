"""Load on an HTTP endpoint: as fast as so many clients can, or at an even pace in the background.

Closed loop (`run_load`): each of `concurrency` clients sends its next request when its last one is answered, as tests
of capacity want it. Open loop (`PacedLoad`): requests leave on a clock, whether or not earlier ones are answered, so
that a slow server gets as many as a fast one and its slowness is not hidden by the client's waiting. Both use asyncio
inside and look synchronous from outside. Requests are never retried; every one ends as one Sample.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Self

import aiohttp

from llmops_core.load_report import LoadSummary, Sample, summarise

TRAFFIC_HEADER = "x-llmops-traffic"
SYNTHETIC = {TRAFFIC_HEADER: "synthetic"}
VERSION_HEADER = "x-llmops-version"
UNDER_WAY_LIMIT = (
    1000  # paced requests that may wait for an answer; beyond them the pace is not held, and it is counted
)

Body = bytes | Mapping[str, Any]


@dataclass(frozen=True)
class LoadResult:
    """Every request's outcome, in the order of their ends, and how long it all took."""

    samples: tuple[Sample, ...]
    elapsed_seconds: float

    def summary(self) -> LoadSummary:
        return summarise(self.samples, self.elapsed_seconds)


def run_load(
    url: str,
    requests: Sequence[Body],
    concurrency: int,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 30,
    total_requests: int | None = None,
    duration_seconds: float | None = None,
) -> LoadResult:
    """POST the bodies in turn from `concurrency` clients, until one of the two limits is reached.

    Raises ValueError unless there is a body, a positive concurrency and exactly one limit. Must not be called from a
    running event loop.
    """
    if not requests or concurrency < 1 or (total_requests is None) == (duration_seconds is None):
        raise ValueError("a load needs requests, a concurrency, and either total_requests or duration_seconds")
    bodies = _limited(requests, total_requests, duration_seconds)
    sender = _Sender(url, headers, timeout_seconds)
    started = time.monotonic()
    asyncio.run(_closed_loop(sender, bodies, concurrency))
    return LoadResult(tuple(sender.samples), time.monotonic() - started)


def _limited(requests: Sequence[Body], total: int | None, duration_seconds: float | None) -> Iterator[bytes]:
    deadline = None if duration_seconds is None else time.monotonic() + duration_seconds
    for number, body in enumerate(cycle([_encoded(body) for body in requests])):
        if (total is not None and number >= total) or (deadline is not None and time.monotonic() >= deadline):
            return
        yield body


async def _closed_loop(sender: "_Sender", bodies: Iterator[bytes], concurrency: int) -> None:
    async def client(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            await sender.send(session, body)

    async with sender.session() as session:
        await asyncio.gather(*(client(session) for _ in range(concurrency)))


@dataclass
class PacedLoad:
    """Requests at an even pace from a background thread, from `start` (or the `with` block's begin) until `stop`.

    `samples` may be read at any time; `stop` waits for what is under way, at most `timeout_seconds`, and is safe to
    call twice. `skipped` counts requests that were due while UNDER_WAY_LIMIT others waited.
    """

    url: str
    requests: Sequence[Body]
    requests_per_second: float
    headers: Mapping[str, str] = field(default_factory=lambda: dict(SYNTHETIC))
    timeout_seconds: float = 30

    def __post_init__(self) -> None:
        if not self.requests or self.requests_per_second <= 0:
            raise ValueError("paced load needs requests and a positive requests_per_second")
        self.skipped = 0
        self._complete = False
        self._sender = _Sender(self.url, self.headers, self.timeout_seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._open_loop()), name="paced-load", daemon=True)
        self._started: float | None = None
        self._elapsed_seconds: float | None = None

    def start(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def stop(self) -> LoadResult:
        """End the traffic; returns all of it. Raises RuntimeError if it was never started or broke off."""
        if self._started is None:
            raise RuntimeError("this load was never started")
        self._stop.set()
        self._thread.join()
        if not self._complete:
            raise RuntimeError("the load broke off; the thread's traceback on standard error says why")
        if self._elapsed_seconds is None:
            self._elapsed_seconds = time.monotonic() - self._started
        return LoadResult(self.samples, self._elapsed_seconds)

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._sender.samples)

    def settle(self) -> None:
        """Returns when every request that is under way now has ended; new ones go on leaving."""
        waited = self._sender.under_way.copy()
        while waited & self._sender.under_way and self._thread.is_alive():
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _open_loop(self) -> None:
        bodies = cycle([_encoded(body) for body in self.requests])
        under_way: set[asyncio.Task[None]] = set()
        async with self._sender.session() as session:
            due = time.monotonic()
            while not self._stop.is_set():
                if len(under_way) < UNDER_WAY_LIMIT:
                    task = asyncio.create_task(self._sender.send(session, next(bodies)))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                else:
                    self.skipped += 1
                # The next one is due a fixed time after the last was due, so that delays do not add up.
                due += 1 / self.requests_per_second
                await self._wait_until(due)
            await asyncio.gather(*under_way)
        self._complete = True

    async def _wait_until(self, due: float) -> None:
        """At least one turn of the event loop, in pieces short enough for a quick stop."""
        await asyncio.sleep(0)
        while not self._stop.is_set() and (left := due - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.1))


class _Sender:
    def __init__(self, url: str, headers: Mapping[str, str] | None, timeout_seconds: float) -> None:
        self.url = url
        self.headers = {"content-type": "application/json", **(headers or {})}
        self.timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self.samples: list[Sample] = []
        self.under_way: set[object] = set()

    @asynccontextmanager
    async def session(self):
        # No limit of connections: the number of clients is the limit.
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=self.headers, timeout=self.timeout, connector=connector) as session:
            yield session

    async def send(self, session: aiohttp.ClientSession, body: bytes) -> None:
        status = error = version = None
        started, token = time.monotonic(), object()
        self.under_way.add(token)
        try:
            async with session.post(self.url, data=body) as response:
                status, version = response.status, response.headers.get(VERSION_HEADER)
                await response.read()
        except TimeoutError:
            error = "timeout"
        except aiohttp.ClientError as failure:
            error = type(failure).__name__
        finally:
            self.under_way.discard(token)
        self.samples.append(Sample(time.monotonic() - started, status, error, version))


def _encoded(body: Body) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
