"""What git's server says is shown to people: none of it may be the secret that the server was sent."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from llmops_core.platform_settings import Secret
from llmops_core.repositories import WatchedRepository
from resources.git.git_program import GitFailed, GitProgram

TOKEN = "sekrit>>>???x"  # its base64 holds a plus sign, a slash and an equals sign


@contextmanager
def repeating(form: Callable[[str], str]) -> Iterator[str]:
    """The address of a server that refuses, and repeats the credentials that it was sent in a form of its own."""

    class Repeat(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = f"you sent {form(self.headers.get('Authorization', '').removeprefix('Basic '))}.".encode()
            self.send_response(403)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Repeat) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "form",
    [
        lambda sent: sent,
        lambda sent: sent.rstrip("="),
        lambda sent: quote(sent, safe=""),
        lambda sent: sent.replace("/", r"\/"),
        lambda sent: sent.replace("+", "-").replace("/", "_"),
        lambda sent: base64.b64decode(sent).decode(),
        lambda sent: base64.b64encode(base64.b64decode(sent).partition(b":")[2]).decode(),
    ],
)
def test_a_server_that_repeats_the_header_showed_the_token_in_another_form(form: Callable[[str], str]) -> None:
    sent = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    assert "+" in sent and "/" in sent and "=" in sent
    with repeating(form) as url:
        fields = {"name": "team", "url": f"{url}/a.git", "token": Secret(env="TEAM_TOKEN")}
        watched = WatchedRepository.model_validate(fields, context={"allowed_endpoints": frozenset({"127.0.0.1"})})
        with pytest.raises(GitFailed, match="you sent ") as failed:
            GitProgram(watched, {"TEAM_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"}).run("ls-remote", watched.url)
    assert "(hidden)" in str(failed.value) and form(sent) not in str(failed.value)
