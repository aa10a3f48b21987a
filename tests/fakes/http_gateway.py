"""The gateway in memory with a real address: requests over HTTP are split by its routes and answered as a model would.

Answers come from a table of prompts; a deployment can be told to fail or to be slow. How long an answer took is what
the test says it took, so that a slow model costs a test no time.
"""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llmops_core.routing import Deployment
from tests.fakes.traffic import FakeGateway


@dataclass
class Behaviour:
    """What a deployment does with every request, and for whom it gives itself out if that is to be a lie."""

    status: int = 200
    seconds: float = 0.01
    version: str | None = None
    answer: str | None = None


class AnsweringGateway(FakeGateway):
    """`behaviours` are by the beginning of a deployment's name. Nothing answers while `down` is set."""

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__()
        self.answers = answers
        self.behaviours: dict[str, Behaviour] = {}
        self.down = False
        self.prompts: list[str] = []
        self._turn = threading.Lock()

    def answer(self, model: str, environment: str, prompt: str) -> tuple[int, str, Deployment | None]:
        with self._turn:
            route = self.current().route(model, environment)  # type: ignore[arg-type]
            if route is None:
                return 404, "", None
            self.prompts.append(prompt)
            names = {share.deployment.name: share.deployment for share in route.shares}
            told = self.behaviours
            chosen = self.request(model, environment)  # type: ignore[arg-type]
            how = next((told[start] for start in told if chosen.startswith(start)), Behaviour())
            self.outcomes[chosen][-1] = (how.status, how.seconds)
            shown = names[chosen].model_copy(update={"version": how.version} if how.version else {})
            return how.status, how.answer or self.answers.get(prompt, "I do not know"), shown


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "GatewayServer"

    def do_GET(self) -> None:
        model, environment, page = self._target()
        served = self.server.gateway.current().route(model, environment) is not None  # type: ignore[arg-type]
        self._reply(200 if served and page == "/ready" else 404, {}, None)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model, environment, _ = self._target()
        status, text, deployment = self.server.gateway.answer(model, environment, asked["messages"][-1]["content"])
        self._reply(status, {"choices": [{"message": {"role": "assistant", "content": text}}]}, deployment)

    def _target(self) -> tuple[str, str, str]:
        parts = self.path.strip("/").split("/")
        environment = "production"
        if parts[0] == "staging":
            environment, parts = "staging", parts[1:]
        return parts[1], environment, "/" + "/".join(parts[2:])

    def _reply(self, status: int, document: Any, deployment: Deployment | None) -> None:
        if self.server.gateway.down:
            self.close_connection = True
            return
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        if deployment is not None:
            self.send_header("x-llmops-model", deployment.model)
            self.send_header("x-llmops-version", deployment.version)
            self.send_header("x-llmops-weights-digest", deployment.weights_digest)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class GatewayServer(ThreadingHTTPServer):
    """One address for a whole session of tests; each test puts a gateway of its own behind it."""

    gateway: AnsweringGateway = field(default_factory=lambda: AnsweringGateway({}))
    daemon_threads = True
    request_queue_size = 128

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def end(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A load that ends leaves requests behind; that is no failure of this server."""
