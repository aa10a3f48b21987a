"""supervisord's XML-RPC over its Unix socket, with time limits; its faults become our errors."""

import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any

from llmops_core.errors import IntegrityError, TransientError


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__()
        self._path = path
        self._timeout_seconds = timeout_seconds

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path, self._timeout_seconds)
        self._connection = host, connection  # what `close` closes
        return connection


class Fault(Exception):
    """supervisord understood and refused; `code` is one of supervisor.xmlrpc.Faults."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


SHUTDOWN_STATE = 6
BAD_NAME = 10
ALREADY_STARTED = 60
NOT_RUNNING = 70
ALREADY_ADDED = 90
STILL_RUNNING = 91


def call(path: Path, method: str, *arguments: Any, timeout_seconds: float = 10.0) -> Any:
    """One call of `supervisor.<method>`. Raises TransientError when nobody answers, Fault when it is refused."""
    try:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(path, timeout_seconds)) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode == SHUTDOWN_STATE:
            raise TransientError("the process keeper is ending") from fault
        raise Fault(fault.faultCode, fault.faultString) from fault
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"the process keeper does not answer at {path}: {error}") from error
    except (xmlrpc.client.Error, ValueError) as error:
        raise IntegrityError(f"what answers at {path} is no process keeper: {error}") from error
