"""Faults that a test orders from the stand-in's server.

They meet requests by verb (get, list, watch, create, update, patch, delete, deletecollection, log), resource (plural)
and name. Orders are served in the order they were given, each as often as `times` says (None: for ever).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakes import kubernetes_errors as errors
from tests.fakes.kubernetes_errors import ApiError
from tests.fakes.kubernetes_kinds import Kind

REASONS = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class DroppedConnection(Exception):
    """The connection ends without an answer."""


@dataclass
class _Order:
    verb: str | None
    resource: str | None
    name: str | None
    times: int | None
    act: Callable[[Kind, str], None]
    after: bool = False  # when the work is done, but before the answer
    status: int = 0

    def meets(self, verb: str, kind: Kind, name: str) -> bool:
        return (
            self.times != 0
            and self.verb in (None, verb)
            and self.resource in (None, kind.plural)
            and self.name in (None, name)
        )


@dataclass
class Faults:
    """`served` counts the faults that met a request."""

    served: int = 0
    _orders: list[_Order] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    watch_generation: int = 0  # raised to end all watches that are open
    _wake: Callable[[], None] = lambda: None

    def refuse(
        self,
        status: int,
        verb: str | None = None,
        resource: str | None = None,
        name: str | None = None,
        times: int | None = 1,
        retry_after_seconds: int = 1,
        message: str = "",
    ) -> None:
        """Answers with an error and does nothing. 429 says when to come again."""

        def act(kind: Kind, asked: str) -> None:
            if status == 429:
                raise errors.too_many_requests(retry_after_seconds)
            if status == 500:
                raise errors.internal(message or "an error on the server")
            if status == 403:
                raise errors.forbidden(
                    kind, asked, message or f'User "tests" cannot do that to resource "{kind.plural}"'
                )
            raise ApiError(status, REASONS.get(status, ""), message or REASONS.get(status, "error"), {})

        self._add(_Order(verb, resource, name, times, act, status=status))

    def slow(self, seconds: float, verb: str | None = None, resource: str | None = None, times: int | None = 1) -> None:
        """Answers late."""
        self._add(_Order(verb, resource, None, times, lambda kind, name: time.sleep(seconds)))

    def lose_answer(self, verb: str | None = None, resource: str | None = None, times: int | None = 1) -> None:
        """Does the work, but the connection drops before the client hears of it."""
        self._add(_Order(verb, resource, None, times, _drop, after=True))

    def lose_request(self, verb: str | None = None, resource: str | None = None, times: int | None = 1) -> None:
        """The connection drops before anything is done."""
        self._add(_Order(verb, resource, None, times, _drop))

    def drop_watches(self) -> None:
        """Ends every open watch in the middle, as a proxy or a restarted server does."""
        self.watch_generation += 1
        self._wake()

    def clear(self) -> None:
        with self._lock:
            self._orders.clear()

    def forbids(self, verb: str, kind: Kind) -> bool:
        """Is there a standing 403 for this? An access review asks."""
        with self._lock:
            return any(order.status == 403 and order.meets(verb, kind, "") for order in self._orders)

    def meet(self, verb: str, kind: Kind, name: str, after: bool = False) -> None:
        """Called by the server for each request; raises what was ordered."""
        with self._lock:
            order = next((one for one in self._orders if one.after is after and one.meets(verb, kind, name)), None)
            if order is None:
                return
            self.served += 1
            if order.times is not None:
                order.times -= 1
        order.act(kind, name)

    def on_change(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def _add(self, order: _Order) -> None:
        with self._lock:
            self._orders.append(order)


def _drop(kind: Kind, name: str) -> None:
    raise DroppedConnection
