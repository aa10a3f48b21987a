"""A small Hugging Face Hub on loopback: the part of its HTTP API that downloading a model uses."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Hub:
    """Serves `files` of one repository at one revision. `refuse` maps a piece of a path to a list of statuses to answer
    first, `served` replaces the bytes of a file behind the back of its listing."""

    repository, revision = "team/tiny", "c" * 40

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.served: dict[str, bytes] = {}
        self.refuse: dict[str, list[int]] = {}
        self.token: str | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def tree(self) -> list[dict[str, Any]]:
        return [self.entry(name, content) for name, content in self.files.items()]

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": blob}
        if name.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
        return entry

    def answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        for piece, statuses in self.refuse.items():
            if piece in path and statuses:
                return statuses.pop(0), {"X-Error-Message": "no"}, b""
        if self.token and authorization != f"Bearer {self.token}":
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        if f"/{self.repository}/" not in path:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if self.revision not in path:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if path.startswith(f"/api/models/{self.repository}/tree/"):
            return 200, {"Content-Type": "application/json"}, json.dumps(self.tree()).encode()
        name = path.rpartition("/")[2]
        if name not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        etag = self.entry(name, self.files[name])["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": self.revision, "Content-Type": "application/octet-stream"}
        return 200, headers, self.served.get(name, self.files[name])

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler's own self is another
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                authorization = self.headers.get("Authorization")
                hub.requests.append((self.command, self.path, authorization))
                status, headers, content = hub.answer(urlsplit(self.path).path, authorization)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_HEAD = do_GET  # noqa: N815 - http.server's name

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler
