"""A Git server on loopback: git's own CGI program behind a small HTTP server that wants a user and a token."""

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.fakes.ports import free_port


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "GitServer"  # type: ignore[assignment]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _serve(self, body: bytes) -> None:
        self.server.asked.append(self.headers.get("Authorization", ""))
        if self.server.moved_to:
            return self._answer(301, {"Location": self.server.moved_to + self.path}, b"")
        if self.server.wanted and self.headers.get("Authorization") != self.server.wanted:
            return self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"who are you?")
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=self._variables(), capture_output=True, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200 OK").split()[0])
        self._answer(status, headers, content)

    def _variables(self) -> dict[str, str]:
        address = urlsplit(self.path)
        return {
            **{"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.folder), "GIT_HTTP_EXPORT_ALL": "1"},
            **{"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
            **{"REQUEST_METHOD": self.command, "PATH_INFO": address.path, "QUERY_STRING": address.query},
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


class GitServer(ThreadingHTTPServer):
    """Serves every repository below `folder`. `asked` are the credentials of all requests; `moved_to` makes it answer
    that everything is elsewhere."""

    daemon_threads = True

    def __init__(self, folder: Path, user: str = "", token: str = "", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port or free_port()), _Handler)
        self.folder = folder
        self.wanted = f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}" if token else ""
        self.moved_to = ""
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
