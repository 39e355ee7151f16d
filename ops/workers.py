"""`rushes worker`: one gang in this process, or one such process a gang under a supervisor."""

from __future__ import annotations

import os

from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from ops.devices import place
from ops.options import Refused
from ops.roles import warn
from ops.stack import parts
from ops.stack.logs import Logs
from ops.stack.supervisor import Supervisor
from pipeline.gang.gang import GangRefused
from pipeline.options import EngineOptions
from worker.main import run_worker


def run_workers(options: EngineOptions, settings: Settings, *, strict: bool) -> int:
    """Run `dp_size` workers until told to stop; the exit code.

    Raises:
        Refused: the device is not there, the layout does not fit, or the model cannot be served.
        SettingsError: with `strict`, a Redis that may lose jobs.
    """
    warn(settings, strict=strict)
    try:
        return _run(options, settings)
    except GangRefused as error:
        raise Refused(str(error)) from None


def _run(options: EngineOptions, settings: Settings) -> int:
    if options.device and options.num_gpus and options.dp_size in {None, 1}:
        # Nothing to find out, and finding out would load torch: so `serve` starts its workers.
        return run_worker(settings, options, gang_env={})
    placement = place(options)
    if placement.layout.dp == 1:
        return run_worker(settings, placement.one_gang, gang_env=placement.gangs[0])
    workers = parts.workers(
        placement.one_gang,
        settings,
        os.environ,
        placement.gangs,
        Workers(JobStore.connect(settings)),
        reached=lambda: True,
    )
    logs = Logs(["workers", *(part.name for part in workers)])
    try:
        return Supervisor([workers], logs, name="workers").run(lambda: None)
    finally:
        logs.close()
