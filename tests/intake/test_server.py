"""What the webhook's server does with those who connect and then say little."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from llmops_assets.intake import server
from llmops_assets.intake.app import build_app
from llmops_core.platform_settings import Secret, Webhook
from tests.fakes.ports import free_port

LIFE_SECONDS = 0.6
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(server, "LIFE_SECONDS", LIFE_SECONDS)
    app = build_app(Webhook(github=Secret(env="X")), {"main"}, lambda _: "s", lambda: None)
    made = ("127.0.0.1", free_port())
    running = server.server_of(app, *made)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not running.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield made
    running.should_exit = True
    thread.join(10)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side ends it."""
    connection.settimeout(10)
    got = b""
    try:
        while piece := connection.recv(4096):
            got += piece
    except ConnectionResetError:
        pass
    return got


def test_half_a_request_kept_everybody_else_out(address: tuple[str, int]) -> None:
    halves = (b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n", HEALTH[:-2], b"")
    halves += (b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",)
    silent = [socket.create_connection(address) for _ in range(server.MOST_CONNECTIONS)]
    for number, one in enumerate(silent):
        one.sendall(halves[number % len(halves)])
    with socket.create_connection(address) as other:
        other.sendall(HEALTH)
        assert b"503" in answer(other)
    began = time.monotonic()
    assert not [got for one in silent if b"200" in (got := answer(one))]  # each ends, whatever had come of it
    assert time.monotonic() - began < 3 * LIFE_SECONDS
    with socket.create_connection(address) as other:
        other.sendall(HEALTH)
        assert b"200 OK" in answer(other)
    for one in silent:
        one.close()


def test_a_header_that_trickles_or_an_answered_request_kept_its_connection(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as answered:
        answered.sendall(HEALTH)
        began = time.monotonic()
        assert b"connection: close" in answer(answered).lower() and time.monotonic() - began < LIFE_SECONDS
    with socket.create_connection(address) as trickling:
        trickling.sendall(HEALTH[:20])
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(100):
                trickling.sendall(b"a")
                time.sleep(LIFE_SECONDS / 10)
        assert time.monotonic() - began < 10 * LIFE_SECONDS
