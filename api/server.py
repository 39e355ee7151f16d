"""The API under gunicorn: a few processes, in each a greenlet a connection (`python -m api`)."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import structlog
from flask import Flask
from gevent import Timeout
from gunicorn.app.base import BaseApplication
from werkzeug.exceptions import RequestTimeout

from api import GRACE_S
from api.app import create_app
from api.log import GunicornLog
from jobs import log
from jobs.artifacts import open_artifacts
from jobs.errors import SettingsError, StoreUnavailable
from jobs.exposure import check_guarded
from jobs.keys import Keys
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.tracing import open_tracing
from jobs.workers import Workers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_PROCESSES = 4
CONNECTIONS = 2000
"""What one process holds at a time; more wait in the listen queue."""


def run(settings: Settings) -> None:
    """Serve on `settings.host` and `settings.port` until SIGTERM or SIGINT; ends by SystemExit.

    Raises:
        SettingsError: no Redis is named, or the address is open to others and nothing guards it.
    """
    if settings.redis_url is None:
        raise SettingsError("the API needs Redis: set RUSHES_REDIS_URL, or start `rushes serve`")
    # Where Redis does not answer yet, each request will ask again.
    with suppress(StoreUnavailable):
        check_guarded(settings, Keys(JobStore.connect(settings)))
    log.configure(settings.log_level)
    _Server(settings).run()


def build(settings: Settings) -> Flask:
    """The application over the parts that the settings name."""
    store = JobStore.connect(settings)
    artifacts = open_artifacts(settings)
    return create_app(settings, store, Workers(store), artifacts, open_tracing("api"))


class _Timely:
    """Bounds how long a request's body may take; gunicorn itself bounds the head, by `keepalive`."""

    def __init__(self, app: WSGIApplication, body_s: float) -> None:
        self._app = app
        self._body_s = body_s

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"] = _Body(environ["wsgi.input"], self._body_s)
        return self._app(environ, start_response)


class _Body:
    """What Werkzeug reads of a request's body, until a deadline."""

    def __init__(self, body: IO[bytes], timeout_s: float) -> None:
        self._body = body
        self._timeout_s = timeout_s
        self._until = time.monotonic() + timeout_s

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes.

        Raises:
            RequestTimeout: the deadline is over.
        """
        late = RequestTimeout(f"the body must be there within {self._timeout_s:g} s")
        with Timeout(max(0.0, self._until - time.monotonic()), late):
            return self._body.read(size)


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's own way of being embedded: options in `load_config`, the application in `load`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in _options(self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        # After the fork: no connection is ever shared between processes.
        app = build(self._settings)
        app.wsgi_app = _Timely(app.wsgi_app, self._settings.body_s)  # type: ignore[method-assign]
        gc.collect()
        gc.freeze()  # what is loaded stays: each full collection would look through it again
        return app


def _options(settings: Settings) -> dict[str, Any]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    return {
        "bind": [address],
        "workers": min(MAX_PROCESSES, os.cpu_count() or 1),
        "worker_class": "gevent",
        "worker_connections": CONNECTIONS,
        "graceful_timeout": GRACE_S,
        "timeout": 60,
        "keepalive": 15,
        "logger_class": GunicornLog,
        "control_socket_disable": True,
        "when_ready": lambda _: structlog.get_logger("api").info("API ready", address=address),
    }
