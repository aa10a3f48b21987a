"""The two queries that our metrics ask of a Prometheus, answered from the pages of the fronts, read when asked.

It keeps what it has read, as Prometheus does of pods that are gone. `half` leaves a part of histograms out.
"""

import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from resources.prometheus_text import Sample, parse_samples
from tests.fakes.ports import free_port


class PlayedPrometheus:
    """`pages` are the addresses to be scraped now; all of them are of `namespace`."""

    def __init__(self, namespace: str, pages: Callable[[], Iterable[str]]) -> None:
        self._namespace, self._pages = namespace, pages
        self.known: dict[tuple[Any, ...], Sample] = {}
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

    def scrape(self) -> int:
        """How many pages answered. Envoy's histograms show what it knew at the page before, so each is read twice."""
        alive = 0
        for page in self._pages():
            for _ in range(2):
                text = urllib.request.urlopen(page, timeout=5).read().decode()
            alive += 1
            for sample in parse_samples(text, "envoy_llmops"):
                self.known[sample.name, *sorted(sample.labels.items())] = sample
        return alive

    def answer(self, query: str) -> list[dict[str, Any]]:
        now = time.time()
        if found := re.fullmatch(r'last_over_time\((\w+)\{namespace="(.+)"\}\[1d\]\)', query):
            chosen = [one for one in self.known.values() if one.name == found[1] and found[2] == self._namespace]
            if self.half:
                chosen = [one for one in chosen if one.labels.get("le") != "+Inf"]
            return [{"metric": one.labels, "value": [now, str(one.value)]} for one in chosen]
        assert query == f'count(envoy_server_live{{namespace="{self._namespace}"}})', query
        alive = self.scrape()
        return [{"metric": {}, "value": [now, str(alive)]}] if alive else []


class _Handler(BaseHTTPRequestHandler):
    played: PlayedPrometheus

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        status = self.played.status
        if self.played.token and self.headers.get("authorization") != f"Bearer {self.played.token}":
            status = 401
        document: dict[str, Any] = {"status": "error", "errorType": "bad_data", "error": "played"}
        if status == 200:
            data = {"resultType": "vector", "result": self.played.answer(asked["query"][0])}
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
