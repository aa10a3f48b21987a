"""Ports for servers that tests start: below the ephemeral range, so that no outgoing connection takes one meanwhile,
and a range for each worker, so that tests running side by side do not race for one."""

import itertools
import os
import socket

FIRST, FOR_A_WORKER = 20000, 1200
PLATFORM_STEP = 60  # ports that one platform may use

_turns = itertools.count(FOR_A_WORKER // 2)


def free_port() -> int:
    """A port nobody listens at. Each call gives another one, so that two servers of one test never meet."""
    for _ in range(FOR_A_WORKER // 2):
        port = _first() + FOR_A_WORKER // 2 + next(_turns) % (FOR_A_WORKER // 2)
        if _is_free(port):
            return port
    raise RuntimeError("no free port")


def free_port_base() -> int:
    """A base whose gateway, admin and first server ports are free."""
    for base in range(_first(), _first() + FOR_A_WORKER // 2, PLATFORM_STEP):
        if all(_is_free(base + offset) for offset in (0, 1, 2, 3, 4, 5, 10, 11, 12)):
            return base
    raise RuntimeError("no free range of ports")


def _first() -> int:
    return FIRST + FOR_A_WORKER * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


def _is_free(port: int) -> bool:
    """Can it be listened at, as servers do (ports that a closed connection still holds are free to them)?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
