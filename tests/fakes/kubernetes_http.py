"""The server of the stand-in: HTTP/1.1 on loopback, one thread for each connection, as the official client expects."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.kubernetes_errors import ApiError, internal, unauthorized
from tests.fakes.kubernetes_faults import DroppedConnection
from tests.fakes.kubernetes_routes import Answer, NoPage, Request, Routes

WARNING = '299 - "{}"'


class Server:
    """Serves `routes` at a fixed port; `stop` refuses connections and ends those that are open, `start` begins anew."""

    def __init__(self, port: int, token: str, routes: Routes) -> None:
        self.port, self.token, self.routes = port, token, routes
        self.requests: list[tuple[str, str]] = []  # method and path with query, in order
        self.failures: list[BaseException] = []
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._http = _Http(("127.0.0.1", self.port), self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="kubernetes-api", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        if self._http is None or self._thread is None:
            return
        self._http.shutdown()
        self._http.server_close()
        self._http.end_connections()
        self._thread.join()
        self._http = None


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256
    block_on_close = False

    def __init__(self, address: tuple[str, int], server: Server) -> None:
        self.stand_in = server
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server's; others are told by the refusals they become."""

    def end_connections(self) -> None:
        for held in list(self._open):
            try:
                held.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it ended meanwhile


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: tests print what they need."""

    def _serve(self) -> None:
        stand_in = self.server.stand_in
        stand_in.requests.append((self.command, self.path))
        try:
            answer = self._answer(stand_in)
        except ApiError as error:
            answer = Answer(error.status(), error.code, headers=error.headers)
        except NoPage:
            answer = Answer(b"404 page not found\n", 404, content_type="text/plain; charset=utf-8")
        except DroppedConnection:
            self._drop()
            return
        except Exception as error:  # noqa: BLE001 - a fault of the stand-in itself: the test that closes it hears of it
            stand_in.failures.append(error)
            answer = Answer(internal(repr(error)).status(), 500)
        try:
            self._send(answer)
        except DroppedConnection:
            self._drop()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _answer(self, stand_in: Server) -> Answer:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        url = urlsplit(self.path)
        if not re.match(r"^/(version|healthz|readyz|livez)", url.path):
            given = self.headers.get("Authorization", "")
            if given != f"Bearer {stand_in.token}":
                raise unauthorized()
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip()
        return stand_in.routes.answer(Request(self.command, url.path, query, raw, kind))

    def _send(self, answer: Answer) -> None:
        if isinstance(answer.body, Iterator):
            self._stream(answer)
            return
        body = json.dumps(answer.body).encode() if not isinstance(answer.body, bytes) else answer.body
        self.send_response(answer.code)
        self._headers(answer)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: Answer) -> None:
        self.send_response(answer.code)
        self._headers(answer)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for part in answer.body:
            if part:
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                self.wfile.flush()
        if answer.breaks():
            self._drop()
            return
        self.wfile.write(b"0\r\n\r\n")

    def _headers(self, answer: Answer) -> None:
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Audit-Id", "00000000-0000-0000-0000-000000000000")
        for warning in answer.warnings:
            self.send_header("Warning", WARNING.format(warning.replace('"', '\\"')))
        for name, value in answer.headers.items():
            self.send_header(name, value)

    def _drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
