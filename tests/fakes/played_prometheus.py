"""The two queries that our metrics ask of a Prometheus, answered from the pages of the fronts, read when asked.

It keeps what it has read and when, as Prometheus does of pods that are gone. `half` leaves a part of histograms out.
What a real Prometheus makes of the same queries is tested in `tests/resources/test_real_prometheus.py`.
"""

import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from resources.traffic.prometheus_text import Sample, parse_samples
from tests.fakes.ports import free_port


class PlayedPrometheus:
    """`pages` are the addresses to be scraped now, all of `namespace`; `pods` names the pods that they are of."""

    def __init__(
        self,
        namespace: str,
        pages: Callable[[], Iterable[str]],
        pods: Callable[[], Iterable[str]] = lambda: ["pod"],
    ) -> None:
        self._namespace, self._pages, self._pods = namespace, pages, pods
        self.known: dict[tuple[Any, ...], list[tuple[float, Sample]]] = {}
        self.status, self.token, self.warnings, self.half = 200, "", [], False
        self._http = ThreadingHTTPServer(("127.0.0.1", free_port()), type("Handler", (_Handler,), {"played": self}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def end(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def keep(self, sample: Sample, at: float | None = None) -> None:
        history = self.known.setdefault((sample.name, *sorted(sample.labels.items())), [])
        history.append((_milliseconds() if at is None else at, sample))

    def scrape(self) -> list[str]:
        """The pods that answered. Envoy's histograms show what it knew at the page before, so each is read twice."""
        pages = list(self._pages())
        for page in pages:
            _, text = (urllib.request.urlopen(page, timeout=5).read().decode() for _ in range(2))
            for sample in parse_samples(text, "envoy_llmops"):
                self.keep(sample)
        return list(self._pods()) if pages else []

    def answer(self, query: str, at: float | None) -> list[dict[str, Any]]:
        if found := re.fullmatch(r'last_over_time\((\w+)\{namespace="(.+)"\}\[(\d+)s\]\)', query):
            assert at is not None and found[2] == self._namespace, query
            return [
                {"metric": sample.labels, "value": [at, str(sample.value)]}
                for sample in self._last(found[1], at, int(found[3]))
                if not (self.half and sample.labels.get("le") == "+Inf")
            ]
        assert query == f'timestamp(envoy_server_live{{namespace="{self._namespace}"}})', query
        alive, now = self.scrape(), _milliseconds()
        return [{"metric": {"pod": pod}, "value": [now, repr(now)]} for pod in alive]

    def _last(self, name: str, at: float, seconds: int) -> Iterator[Sample]:
        for key, history in self.known.items():
            within = [sample for moment, sample in history if at - seconds <= moment <= at]
            if key[0] == name and within:
                yield within[-1]


def _milliseconds() -> float:
    """Of now: moments are no finer in a Prometheus."""
    return round(time.time() * 1000) / 1000


class _Handler(BaseHTTPRequestHandler):
    played: PlayedPrometheus

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        status = self.played.status
        if self.played.token and self.headers.get("authorization") != f"Bearer {self.played.token}":
            status = 401
        document: dict[str, Any] = {"status": "error", "errorType": "bad_data", "error": "played"}
        if status == 200:
            data = {
                "resultType": "vector",
                "result": self.played.answer(asked["query"][0], float(asked["time"][0]) if "time" in asked else None),
            }
            document = {"status": "success", "data": data} | (
                {"warnings": self.played.warnings} if self.played.warnings else {}
            )
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
