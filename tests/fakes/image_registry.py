"""A registry of images on loopback, as far as asking for a manifest goes: with nobody's leave, or with a token that is
given for a name and a password."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "a-token"


@contextmanager
def image_registry(port: int, images: set[str], login: str = "") -> Iterator[str]:
    """Its host. `images` are name:tag; `login` is name:password, where it wants one."""
    basic = "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if login and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                realm = f'Bearer realm="http://127.0.0.1:{port}/token",service="registry"'
                return self._answer(401, headers={"www-authenticate": realm})
            _, name, tag = self.path.replace("/manifests/", "/v2/").split("/v2/")
            return self._answer(200 if f"{name}:{tag}" in images else 404)

        def do_GET(self) -> None:
            good = self.path.startswith("/token") and self.headers.get("Authorization") == basic
            self._answer(200 if good else 401, f'{{"token": "{TOKEN}"}}' if good else "{}")

        def _answer(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
