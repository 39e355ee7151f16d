"""`rushes serve`: everything in one foreground process that supervises the others.

1. Lock the home, check the ports, find the devices, plan the layout: whatever cannot be is refused
   before anything starts.
2. Start in order: redis; api, relay and flower; one worker a gang. Each stage is waited for.
3. Stop in the opposite order, so that workers can hand their jobs back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http.client import OK

import click

from jobs.artifacts import check_at_start, open_artifacts
from jobs.exposure import check_flower_guarded, check_guarded, is_loopback, is_open
from jobs.keys import Keys
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from ops.devices import place
from ops.stack import parts, probes
from ops.stack.embedded import server_of
from ops.stack.foreign import check_redis, refused_if, without_password
from ops.stack.home import Home, Run
from ops.stack.logs import Logs
from ops.stack.ports import LOOPBACK, check_port, free_port
from ops.stack.supervisor import Supervisor
from pipeline.options import EngineOptions


def serve(options: EngineOptions, settings: Settings, *, flower: bool, strict: bool) -> int:
    """Run until told to stop; the exit code.

    Raises:
        SettingsError: the home is in use, a port is taken, Redis does not answer, the artifact
            store refuses.
        Refused: the device is not there or the layout does not fit.
    """
    began = time.monotonic()
    with Home(settings.home_path) as home:
        check_port(settings.host, settings.port, "--port")
        if flower:
            check_port(settings.flower_host, settings.flower_port, "RUSHES_FLOWER_PORT")
            check_flower_guarded(settings)
        _check_guarded(settings)
        warnings = _warnings(settings, strict=strict)
        placement = place(options)

        redis_port = None if settings.redis_url else free_port(settings.port, settings.flower_port)
        redis_url = settings.redis_url or f"redis://{LOOPBACK}:{redis_port}/0"
        address = parts.address(settings)
        env = parts.environment(settings, redis_url)
        announced = Workers(JobStore.connect(settings.model_copy(update={"redis_url": redis_url})))
        stages = [
            [] if redis_port is None else [parts.redis(home.path, env, redis_port, announced)],
            parts.services(settings, env, flower=flower),
            parts.workers(
                placement.one_gang,
                settings,
                env,
                placement.gangs,
                announced,
                reached=lambda: probes.api_status(settings) == OK,
            ),
        ]
        logs = Logs(["serve", *(p.name for stage in stages for p in stage)], home.path / "logs")
        supervisor = Supervisor(stages, logs, name="serve")
        supervisor.say(f"address  {address}")
        supervisor.say(f"model    {options.name} ({options.model_path})")
        supervisor.say(f"layout   {placement}")
        supervisor.say(f"data     {home.path}")
        supervisor.say(f"redis    {without_password(redis_url)}")
        for warning in warnings:
            supervisor.say(click.style(f"WARNING  {warning}", fg="bright_yellow", bold=True))
        home.announce(Run(pid=os.getpid(), redis_url=redis_url, api_url=address))
        try:
            return supervisor.run(_say_ready(supervisor, settings, began))
        finally:
            logs.close()


def _check_guarded(settings: Settings) -> None:
    if is_open(settings):
        return
    if settings.redis_url:
        check_guarded(settings, Keys(JobStore.connect(settings)))
        return
    with server_of(settings) as store:
        check_guarded(settings, Keys(store))


def _warnings(settings: Settings, *, strict: bool) -> list[str]:
    url = settings.redis_url
    warnings = refused_if(strict, check_redis(url, settings.durability)) if url else []
    if settings.open and not is_loopback(settings.host):
        warnings.append(
            f"{settings.host} is reachable from outside this machine and RUSHES_OPEN=1: as long as "
            "there are no keys, whoever reaches it can use it"
        )
    if problem := check_at_start(open_artifacts(settings)):
        warnings.append(problem)
    return warnings


def _say_ready(supervisor: Supervisor, settings: Settings, began: float) -> Callable[[], None]:
    def say() -> None:
        supervisor.say(f"ready    {parts.address(settings)} after {time.monotonic() - began:.1f} s")

    return say
