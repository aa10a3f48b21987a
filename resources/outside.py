"""Connecting to addresses that an input named: only outwards, and patiently.

The schema has judged an endpoint's text; only here is it known where its name leads. A name that resolves to an inner
address is refused unless the environment's settings list the endpoint, and credentials of the platform are sent to
listed endpoints and the vendors' own only: whoever may push a branch may name any other.
"""

import socket
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from llmops_core import uris
from llmops_core.errors import InputError, Problem, TransientError

Result = TypeVar("Result")

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5


def check_destination(
    endpoint: str, allowed_endpoints: Collection[str], file: str = "model.yaml", field: str = "source.endpoint"
) -> bool:
    """Whether the settings list the endpoint, which `field` of `file` names. Raises InputError if it leads inside,
    TransientError without DNS."""
    try:
        parsed = uris.check_endpoint(endpoint, allowed_endpoints)
    except uris.UnsafeUri as error:
        raise _refused(endpoint, file, field, str(error)) from None
    if parsed.is_listed(allowed_endpoints):
        return True
    try:
        found = socket.getaddrinfo(parsed.host, parsed.port or 443, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise TransientError(f"the name {parsed.host} cannot be resolved: {error.strerror}") from None
    for address in {str(entry[4][0]) for entry in found}:
        if inside := uris.why_inside(address):
            raise _refused(endpoint, file, field, f"{parsed.host} is {address}: {inside}")
    return False


def hold_outside(host: str) -> None:
    """From now on this process connects to `host`, and to names below it, at public addresses only.

    A name that was checked may lead inside when it is resolved again, so what is connected to is judged: for a program
    that exists for this one connection, since it replaces what everything in the process resolves names with. OSError
    is what libraries expect of a name that cannot be resolved.
    """
    resolve = socket.getaddrinfo

    def outwards(name: Any, *arguments: Any, **named: Any) -> Any:
        found = resolve(name, *arguments, **named)
        asked = str(name).lower().removesuffix(".")
        if asked == host or asked.endswith(f".{host}"):
            for address in {str(entry[4][0]) for entry in found}:
                if inside := uris.why_inside(address):
                    raise socket.gaierror(socket.EAI_FAIL, f"{asked} is {address}: {inside}")
        return found

    socket.getaddrinfo = outwards


def retried(action: Callable[[], Result]) -> Result:
    """The action's result; a TransientError is tried again, each time after twice the pause."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return action()
        except TransientError:
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
    return action()


def _refused(endpoint: str, file: str, field: str, message: str) -> InputError:
    expected = "a public host, or one that allowed_endpoints lists"
    return InputError(Problem(file, field, endpoint, expected, message))
