"""A small HTTP server that behaves as its requests say: slow, failing, breaking off. Also a program of its own.

python -m tests.fakes.model_server PORT [READY_AFTER_SECONDS]
"""

import json
import socket
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "ModelServer"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200 if time.monotonic() >= self.server.ready_at and self.server.healthy else 503, {})
        else:
            self._model()

    def do_POST(self) -> None:
        self._model()

    def _model(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.seen += 1
        time.sleep(float(self.headers.get("x-test-seconds") or 0))
        how = self.headers.get("x-test-break")
        if how == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif how == "middle":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
            self.wfile.flush()
            time.sleep(0.05)
            self.close_connection = True
        else:
            status = int(self.headers.get("x-test-status") or self.server.status)
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = {"server": self.server.name, "path": self.path, "headers": headers, "body_bytes": len(body)}
            self._answer(status, answer)

    def _answer(self, status: int, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.send_header("x-llmops-version", "spoofed by the server")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ModelServer(ThreadingHTTPServer):
    """Serves from construction until `end`. `seen` counts requests other than /health."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str = "model", port: int = 0, ready_after_seconds: float = 0.0) -> None:
        self.name = name
        self.seen = 0
        self.status = 200
        self.healthy = True
        self.ready_at = time.monotonic() + ready_after_seconds
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked may leave before the answer: that is what tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        return self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """As a program that ends: connections that a proxy keeps end too."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    if sys.argv[1] == "crash":
        sys.exit("out of memory")
    server = ModelServer("program", int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
    threading.Event().wait()
