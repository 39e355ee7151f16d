"""The job store of this home, whether its `serve` runs or not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.errors import SettingsError
from jobs.settings import Settings
from jobs.store import JobStore
from ops.stack import probes
from ops.stack.child import bound
from ops.stack.home import Home, running
from ops.stack.ports import LOOPBACK, free_port
from ops.stack.redis_server import find_server, server_command

START_S = 60.0


@contextmanager
def store_of(settings: Settings) -> Iterator[JobStore]:
    """The store in `redis_url`, of a running `serve`, or in the home with a server for the moment.

    Raises:
        SettingsError: the home is being started or cannot be used, or its server does not start.
    """
    run = None if settings.redis_url else running(settings.home_path)
    if run is not None:
        settings = settings.model_copy(update={"redis_url": run.redis_url})
    if settings.redis_url is not None:
        yield JobStore.connect(settings)
        return
    with Home(settings.home_path), server_of(settings) as store:
        yield store


@contextmanager
def server_of(settings: Settings) -> Iterator[JobStore]:
    """A server over the home's data, for whoever has locked the home."""
    directory = settings.home_path / "redis"
    directory.mkdir(mode=0o700, exist_ok=True)
    port = free_port()
    server = subprocess.Popen(
        bound(server_command(find_server(), port=port, directory=directory)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while not probes.redis_answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SettingsError(f"the Redis server over {directory} does not start")
            time.sleep(0.02)
        url = f"redis://{LOOPBACK}:{port}/0"
        yield JobStore.connect(settings.model_copy(update={"redis_url": url}))
    finally:
        server.terminate()  # it writes what it has, and every answered write is on disk already
        server.wait()
