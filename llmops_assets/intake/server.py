"""The server under the webhook, for a port that strangers may reach: nobody keeps a connection.

A connection carries one request and ends at a fixed time after it began, whatever came on it: half a header, half a
body, nothing, or an answer that nobody fetches. uvicorn itself waits for a header without end, and counts connections,
so a few dozen silent ones would shut the hosts out for as long as they like. h11 also bounds how long a header may be.
"""

import asyncio

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 64  # each holds one body at most
LIFE_SECONDS = 15.0  # longer than a body may take (app.READ_LIMIT_SECONDS), so that who is too slow is told so


class BriefConnection(H11Protocol):
    """One connection, ended when its time is over."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end = self.loop.call_later(LIFE_SECONDS, transport.abort)  # close() would wait for who does not read

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


def server_of(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BriefConnection,
        headers=[("Connection", "close")],
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        log_config=None,
    )
    return uvicorn.Server(config)
