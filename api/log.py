"""Gunicorn's log through structlog: one readable line a request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog

from api.request_id import HEADER

QUIET = ("/livez", "/readyz", "/health")
"""Asked every few seconds by whoever watches: logged at debug, whatever they answer."""


class GunicornLog:
    """Gunicorn's logger interface (`gunicorn.glogging.Logger`) over structlog.

    What gunicorn tells about itself at info is our debug.
    """

    access_log_enabled = True

    def __init__(self, cfg: object) -> None:
        self._cfg = cfg
        self._log = structlog.get_logger("api")

    def access(
        self, resp: Any, _: object, environ: Mapping[str, Any], request_time: timedelta
    ) -> None:
        """One line, after the last byte. The query is left out: it may hold what is private."""
        path = repr(environ["RAW_URI"].partition("?")[0])[1:-1][:200]  # no control characters
        status = int(str(resp.status).split(maxsplit=1)[0])
        headers = {name.lower(): value for name, value in resp.headers}
        say = self._log.debug if path in QUIET else self._log.info
        say(
            f"{environ['REQUEST_METHOD']} {path} {status}",
            ms=round(request_time.total_seconds() * 1000, 1),
            bytes=resp.sent,
            client=environ.get("REMOTE_ADDR", ""),
            request_id=headers.get(HEADER, ""),
        )

    def critical(self, msg: object, *args: object, **_: object) -> None:
        """Pass on."""
        self._log.critical(_text(msg, args))

    def error(self, msg: object, *args: object, **_: object) -> None:
        """Pass on."""
        self._log.error(_text(msg, args))

    def warning(self, msg: object, *args: object, **_: object) -> None:
        """Pass on."""
        self._log.warning(_text(msg, args))

    def info(self, msg: object, *args: object, **_: object) -> None:
        """Pass on as debug."""
        self._log.debug(_text(msg, args))

    def debug(self, msg: object, *args: object, **_: object) -> None:
        """Pass on."""
        self._log.debug(_text(msg, args))

    def exception(self, msg: object, *args: object, **_: object) -> None:
        """Pass on with the traceback."""
        self._log.exception(_text(msg, args))

    def reopen_files(self) -> None:
        """No files."""

    def close_on_exec(self) -> None:
        """No files."""


def _text(msg: object, args: tuple[object, ...]) -> str:
    return str(msg) % args if args else str(msg)
