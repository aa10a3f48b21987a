"""What a host, or anybody else, can send to the webhook."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from llmops_assets.intake import app
from llmops_assets.intake.app import MOST_BYTES, build_app
from llmops_core.errors import EnvironmentLacks
from llmops_core.platform_settings import Secret, Webhook
from resources.secret_values import secret_value
from tests.core.test_webhook import PUSH, SECRET, SIGNING, as_bytes, github, gitlab

GITHUB = Webhook(github=Secret(env="GITHUB_SECRET"))


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def client(asked: list[str]) -> TestClient:
    return TestClient(build_app(GITHUB, {"main"}, lambda _: SECRET, lambda: asked.append("tick")))


def test_a_signed_push_made_no_tick_due(client: TestClient, asked: list[str]) -> None:
    body = as_bytes(PUSH)
    answer = client.post("/webhooks/github", content=body, headers=github(body))
    assert (answer.status_code, asked) == (202, ["tick"]) and "looked at now" in answer.text
    client.post("/webhooks/github", content=body, headers=github(body))
    assert len(asked) == 2  # a delivery that comes again is harmless: both mean the same look


def test_gitlab_s_own_two_ways_were_not_understood(asked: list[str]) -> None:
    body, webhook = as_bytes(PUSH), Webhook(gitlab=Secret(env="GITLAB_SECRET"))
    for secret, headers in ((SIGNING, gitlab(body, at=time.time())), (SECRET, {"X-Gitlab-Token": SECRET})):
        client = TestClient(build_app(webhook, {"main"}, lambda _, held=secret: held, lambda: asked.append("tick")))
        assert client.post("/webhooks/gitlab", content=body, headers=headers).status_code == 202
        assert client.post("/webhooks/gitlab", content=body + b" ", headers=gitlab(body)).status_code == 401
    assert asked == ["tick", "tick"]


@pytest.mark.parametrize(
    ("document", "event", "status"),
    [
        (PUSH, "ping", 200),
        ({**PUSH, "ref": "refs/heads/other"}, "push", 202),
        ({**PUSH, "ref": "refs/tags/x"}, "push", 202),
    ],
)
def test_what_changes_nothing_here_made_a_tick_due(
    client: TestClient, asked: list[str], document: dict, event: str, status: int
) -> None:
    body = as_bytes(document)
    answer = client.post("/webhooks/github", content=body, headers=github(body, event))
    assert (answer.status_code, asked) == (status, [])


def test_somebody_else_s_message_was_told_why_or_acted_on(
    client: TestClient, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = as_bytes(PUSH)
    told = {
        client.post("/webhooks/github", content=body, headers=headers).text
        for headers in (
            {},
            {"x-hub-signature-256": "sha256=0"},
            github(b"other"),
            github(body) | {"x-hub-signature-256": "é".encode()},
        )
    }
    assert told == {"the signature is missing or wrong\n"} and asked == []
    assert SECRET not in caplog.text and github(body)["x-hub-signature-256"] not in caplog.text


def test_a_host_without_a_secret_was_heard(client: TestClient, asked: list[str]) -> None:
    for path in (
        "/webhooks/gitlab",
        "/webhooks/bitbucket",
        "/webhooks/model_fields",
        "/webhooks/",
        "/webhooks/github/x",
    ):
        assert client.post(path, content=b"{}").status_code == 404
    assert client.get("/webhooks/github").status_code == 405 and asked == []


@pytest.mark.parametrize("body", [b"", b"payload=%7B%7D", b"[]", b"\xff", b"[" * 100_000])
def test_a_signed_body_that_is_no_json_object_crashed(client: TestClient, asked: list[str], body: bytes) -> None:
    assert client.post("/webhooks/github", content=body, headers=github(body)).status_code == 400 and asked == []


def test_a_body_without_end_was_read(client: TestClient, asked: list[str]) -> None:
    taken: list[int] = []

    def without_end() -> Iterator[bytes]:
        while True:
            taken.append(65536)
            yield b" " * 65536

    large = b" " * (MOST_BYTES + 1)
    assert client.post("/webhooks/github", content=large, headers=github(large)).status_code == 413
    lying = {"content-length": "9" * 400}
    assert client.post("/webhooks/github", content=b"", headers=lying).status_code == 413
    scope = {"type": "http", "method": "POST", "path": "/webhooks/github", "headers": [], "query_string": b""}
    pieces, sent = without_end(), []

    async def receive() -> dict:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413 and sum(taken) <= MOST_BYTES + 65536


def test_the_largest_allowed_body_was_refused(client: TestClient, asked: list[str]) -> None:
    body = as_bytes(PUSH | {"commits": ["x" * 1000] * 1000})
    body += b" " * (MOST_BYTES - len(body))
    assert client.post("/webhooks/github", content=body, headers=github(body)).status_code == 202 and asked


def test_a_body_that_never_ends_held_its_connection(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "READ_LIMIT_SECONDS", 0.05)
    scope = {"type": "http", "method": "POST", "path": "/webhooks/github", "headers": [], "query_string": b""}
    sent: list[dict] = []

    async def receive() -> dict:
        await asyncio.sleep(60)
        return {}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_a_secret_that_cannot_be_read_let_everybody_in(asked: list[str]) -> None:
    def lost(_: Secret) -> str:
        raise EnvironmentLacks("the file /run/secrets/github holds no secret")

    body = as_bytes(PUSH)
    client = TestClient(build_app(GITHUB, {"main"}, lost, lambda: asked.append("tick")))
    answer = client.post("/webhooks/github", content=body, headers=github(body))
    assert (answer.status_code, asked) == (503, []) and "/run" not in answer.text


def test_a_changed_secret_held_only_after_a_restart(tmp_path: Path, asked: list[str]) -> None:
    file = tmp_path / "secret"
    webhook = Webhook(github=Secret(file=str(file)))
    client = TestClient(build_app(webhook, {"main"}, lambda s: secret_value(s, {}), lambda: asked.append("tick")))
    body = json.dumps(PUSH).encode()
    for text, status in (("old", 401), (SECRET + "\n", 202), ("", 503), ("\n", 503)):
        file.write_text(text)
        assert client.post("/webhooks/github", content=body, headers=github(body)).status_code == status
    file.unlink()
    assert client.post("/webhooks/github", content=body, headers=github(body)).status_code == 503


def test_a_secret_that_became_unusable_crashed_or_blamed_the_host(
    tmp_path: Path, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret").write_text("whsec_é")
    webhook = Webhook(gitlab=Secret(file=str(tmp_path / "secret")))
    client = TestClient(build_app(webhook, {"main"}, lambda s: secret_value(s, {}), lambda: asked.append("tick")))
    body = as_bytes(PUSH)
    answer = client.post("/webhooks/gitlab", content=body, headers=gitlab(body, at=time.time()))
    assert (answer.status_code, asked) == (503, []) and "whsec" not in answer.text
    assert "webhook.gitlab: the secret cannot be used: after whsec_ it is no base64" in caplog.text


def test_a_secret_that_is_nowhere_was_empty(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="the variable GITHUB_SECRET holds no secret"):
        secret_value(Secret(env="GITHUB_SECRET"), {"GITHUB_SECRET": ""})
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(EnvironmentLacks, match="cannot be read: UnicodeDecodeError"):
        secret_value(Secret(file=str(tmp_path / "binary")), {})
    assert secret_value(Secret(env="A"), {"A": " x "}) == " x "
