"""The parts of the stack: how each is started and how one sees that it serves.

Their configuration passes through the environment, the same `RUSHES_*` that the single roles read.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from api import GRACE_S
from jobs.errors import StoreUnavailable
from jobs.settings import Settings
from jobs.workers import Workers
from ops.options import to_arguments
from ops.roles import API
from ops.stack import probes
from ops.stack.part import Part
from ops.stack.ports import reached_from_here
from ops.stack.redis_server import find_server, server_command
from pipeline.options import EngineOptions

RUSHES = (sys.executable, "-m", "ops.cli")
EXIT_S = 0.5
"""What a part gets beyond its own grace before it is killed; with `HAND_BACK_S` 15 s in all."""
HAND_BACK_S = 1.0
"""The same for a worker, beyond `drain_s`."""


def address(settings: Settings) -> str:
    """Where clients on this machine find the API."""
    host = reached_from_here(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def environment(settings: Settings, redis_url: str) -> dict[str, str]:
    """Ours, with what the command line or `serve` itself decided."""
    return {
        **os.environ,
        "RUSHES_HOME": str(settings.home_path),
        "RUSHES_HOST": settings.host,
        "RUSHES_PORT": str(settings.port),
        "RUSHES_LOG_LEVEL": settings.log_level,
        "RUSHES_REDIS_URL": redis_url,
        "PYTHONUNBUFFERED": "1",
    }


def redis(home: Path, env: Mapping[str, str], port: int, announced: Workers) -> Part:
    """The embedded server: the same port and folder after a restart.

    At start-up it is ready once no worker of an earlier start is announced: `serve` holds the home's
    lock, so none can live, and one that was killed would pass for a ready gang until its lease ends.

    Raises:
        SettingsError: no binary is there.
    """
    directory = home / "redis"
    directory.mkdir(mode=0o700, exist_ok=True)

    def ready(_pid: int) -> bool:
        if not probes.redis_answers(port):
            return False
        try:
            announced.withdraw_all()
        except StoreUnavailable:
            return False
        return True

    return Part(
        name="redis",
        command=tuple(server_command(find_server(), port=port, directory=directory)),
        env=env,
        ready=ready,
        ready_s=None,  # loading a large data set takes its time
        stop_s=1.0,  # what it acknowledged is on disk
    )


def services(settings: Settings, env: Mapping[str, str], *, flower: bool) -> list[Part]:
    """API and relay, and Flower where asked for."""
    found = [
        Part(
            name="api",
            command=API,  # not by way of `rushes api`: the settings are checked
            env=env,
            ready=lambda _pid: probes.api_status(settings) is not None,
            stop_s=GRACE_S + EXIT_S,
        ),
        Part(name="relay", command=(*RUSHES, "relay"), env=env),
    ]
    if flower:
        found.append(
            Part(
                name="flower",
                command=(*RUSHES, "flower"),
                env=env,
                ready=lambda _pid: probes.flower_status(settings) is not None,
            )
        )
    return found


def workers(
    one_gang: EngineOptions,
    settings: Settings,
    env: Mapping[str, str],
    gangs: Sequence[Mapping[str, str]],
    announced: Workers,
    *,
    reached: Callable[[], bool],
) -> list[Part]:
    """One worker a gang, each with its own devices in its environment.

    One is ready once it has announced a ready gang itself (others may share its Redis) and `reached()`;
    one that died is withdrawn at once, where its announcement would outlive it by up to `lease_s`.
    """
    host = socket.gethostname()

    def ready(pid: int) -> bool:
        try:
            worker = announced.of_process(host, pid)
        except StoreUnavailable:
            return False
        return worker is not None and worker.info.state == "ready" and reached()

    def died(pid: int) -> None:
        with suppress(StoreUnavailable):  # then its lease ends it
            if worker := announced.of_process(host, pid):
                announced.withdraw(worker.info.id)

    return [
        Part(
            name=f"worker-{index}",
            command=(*RUSHES, "worker", *to_arguments(one_gang)),
            env={**env, **gang},
            ready=ready,
            died=died,
            ready_s=None,  # a large model takes minutes, and the worker restarts its gang itself
            stop_s=settings.drain_s + HAND_BACK_S,
        )
        for index, gang in enumerate(gangs)
    ]
