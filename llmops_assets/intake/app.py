"""The webhook's HTTP side: read a bounded body, let core judge it, ask for a tick.

It answers before the tick runs, as hosts demand that wait ten seconds at most, and tells who is not proven nothing but
the status.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import cast

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from llmops_core.errors import EnvironmentLacks
from llmops_core.platform_settings import Secret, Webhook
from llmops_core.webhook import Host, fault_of_secret, hear

MOST_BYTES = 1_048_576
READ_LIMIT_SECONDS = 10.0
UNREADABLE = "the secret cannot be read; the platform's log says why"

log = logging.getLogger("llmops.intake")


def build_app(
    webhook: Webhook, watched: Collection[str], secret_value: Callable[[Secret], str], ask: Callable[[], None]
) -> Starlette:
    """`secret_value` reads a secret, `ask` makes a tick due; `watched` are names of branches."""

    async def received(request: Request) -> Response:
        name = request.path_params["host"]
        secret = getattr(webhook, name) if name in Webhook.model_fields else None
        if secret is None:
            return _answer(404, "no webhook of this host has a secret here")
        body = await _body(request)
        if isinstance(body, Response):
            return body
        try:
            known = secret_value(secret)
        except EnvironmentLacks as error:
            log.error("%s: %s", name, error)
            return _answer(503, UNREADABLE)
        if fault := fault_of_secret(cast(Host, name), known):
            log.error("webhook.%s: the secret cannot be used: %s", name, fault)
            return _answer(503, UNREADABLE)
        heard = hear(cast(Host, name), known, dict(request.headers), body, watched, time.time())
        if heard.branch:
            ask()
        log.info("%s: %d %s %r", name, heard.status, heard.text, heard.branch[:200])
        return _answer(heard.status, heard.text)

    async def health(_: Request) -> Response:
        return _answer(200, "listening")

    routes = [Route("/health", health), Route("/webhooks/{host}", received, methods=["POST"])]
    return Starlette(routes=routes)


async def _body(request: Request) -> bytes | Response:
    """The body, or the answer to one that is too large, too slow or cut off."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and (len(announced) > len(str(MOST_BYTES)) or int(announced) > MOST_BYTES):
        return _answer(413, f"a body has {MOST_BYTES} bytes at most")
    read = bytearray()
    try:
        async with asyncio.timeout(READ_LIMIT_SECONDS):
            async for piece in request.stream():
                read += piece
                if len(read) > MOST_BYTES:
                    return _answer(413, f"a body has {MOST_BYTES} bytes at most")
    except TimeoutError:
        return _answer(408, "the body did not come in time")
    except ClientDisconnect:
        return _answer(400, "the body was cut off")
    return bytes(read)


def _answer(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)
