"""The single roles that need no more than the settings: API and relay."""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial

from jobs import log
from jobs.errors import SettingsError
from jobs.settings import Settings
from ops.stack.foreign import checked

API = (sys.executable, "-P", "-m", "api")
"""The API's own process; it reads the settings from the environment."""


def warn(settings: Settings, *, strict: bool) -> None:
    """Say what is wrong with the Redis that a role is to use.

    Raises:
        SettingsError: with `strict`, if anything is.
    """
    for warning in checked(settings, strict=strict):
        print(f"WARNING  {warning}", file=sys.stderr)


def run_api(settings: Settings, *, strict: bool) -> None:
    """Serve HTTP until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: a setting that stops start-up.
    """
    if settings.redis_url is None:
        raise SettingsError("the API needs Redis: set RUSHES_REDIS_URL, or start `rushes serve`")
    warn(settings, strict=strict)
    # A fresh process, whose sockets are cooperative from its first import on.
    address = {"RUSHES_HOST": settings.host, "RUSHES_PORT": str(settings.port)}
    os.execve(sys.executable, API, os.environ | address)  # noqa: S606 - our own interpreter


def run_relay(settings: Settings, *, strict: bool) -> None:
    """Release jobs, requeue silent ones, send webhooks, until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: a setting that stops start-up.
    """
    from jobs.artifacts import open_artifacts
    from jobs.celery_app import make_celery, send
    from jobs.relay.relay import Relay
    from jobs.store import JobStore
    from jobs.tracing import open_tracing
    from jobs.workers import Workers

    warn(settings, strict=strict)
    log.configure(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    store = JobStore.connect(settings)
    Relay(
        settings,
        store,
        Workers(store),
        partial(send, make_celery(settings)),
        open_artifacts(settings),
        tracing=open_tracing("relay"),
    ).run(stop)
