"""Is it up? Each question takes a second at most and answers False rather than raise."""

from __future__ import annotations

import http.client
import socket

from jobs.settings import Settings
from ops.stack.ports import LOOPBACK, reached_from_here

PATIENCE_S = 1.0


def redis_answers(port: int) -> bool:
    """True once the embedded server has loaded its data: until then it answers PING with LOADING."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=PATIENCE_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def api_status(settings: Settings) -> int | None:
    """The status of /health: 200 once a gang is ready; None when nothing answers."""
    return _status(reached_from_here(settings.host), settings.port, "/health")


def flower_status(settings: Settings) -> int | None:
    """The status of Flower's own health check; None when nothing answers."""
    return _status(reached_from_here(settings.flower_host), settings.flower_port, "/healthcheck")


def _status(host: str, port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
