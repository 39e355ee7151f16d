"""One id a request, in the answer and in every log line: the client's own where it is a plain word."""

from __future__ import annotations

import re
import secrets

import structlog
from flask import Flask, Response, g, request

HEADER = "x-request-id"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,100}")


def install(app: Flask) -> None:
    """Bind the id before each request, send it with each answer."""
    app.before_request(_bind)
    app.after_request(_send)


def _bind() -> None:
    given = request.headers.get(HEADER, "")
    g.request_id = given if _PLAIN.fullmatch(given) else f"req_{secrets.token_hex(12)}"
    structlog.contextvars.clear_contextvars()  # the thread's last request left its own
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _send(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    return response
