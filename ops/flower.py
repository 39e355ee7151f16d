"""`rushes flower`: the Celery dashboard over our broker. A job is a task of the same id there."""

from __future__ import annotations

import os
from pathlib import Path

from jobs.celery_app import make_celery
from jobs.errors import SettingsError
from jobs.exposure import check_flower_guarded
from jobs.settings import Settings
from jobs.store import JobStore
from ops.flower_tasks import formatter
from ops.stack.home import running
from ops.stack.ports import check_port

SAVE_MS = 10_000
"""How often Flower writes its state: without it a killed Flower forgets every task."""


def run_flower(settings: Settings) -> None:
    """Run Flower until SIGTERM or Ctrl-C. Without RUSHES_REDIS_URL: that of the running `serve`.

    Raises:
        SettingsError: no Redis is known, the port is taken, or nothing guards what must be guarded.
    """
    check_flower_guarded(settings)
    check_port(settings.flower_host, settings.flower_port, "RUSHES_FLOWER_PORT")
    if settings.redis_url is None:
        run = running(settings.home_path)
        if run is None:
            raise SettingsError(
                f"no rushes serve runs on RUSHES_HOME {settings.home_path}: start it, or set "
                "RUSHES_REDIS_URL"
            )
        settings = settings.model_copy(update={"redis_url": run.redis_url})
    app = make_celery(settings)

    from flower.options import options  # it defines them when imported

    if settings.flower_basic_auth is not None:
        # Not by the command line, which everybody on the machine can read, nor by the environment,
        # where Flower would take a comma in the password for the start of another one.
        os.environ.pop("FLOWER_BASIC_AUTH", None)
        options.basic_auth = [settings.flower_basic_auth.get_secret_value()]
    options.format_task = formatter(JobStore.connect(settings))
    state_file(settings).parent.mkdir(parents=True, exist_ok=True)
    app.start(["flower", *flower_arguments(settings)])


def state_file(settings: Settings) -> Path:
    """Where Flower keeps the tasks it has seen."""
    return settings.home_path / "flower" / "state"


def flower_arguments(settings: Settings) -> list[str]:
    """Flower's command line."""
    return [
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
        f"--logging={'debug' if settings.log_level == 'debug' else 'warning'}",
        "--persistent=True",
        f"--db={state_file(settings)}",
        f"--state-save-interval={SAVE_MS}",
        "--max-tasks=10000",
        f"--read-only={settings.flower_read_only}",
        "--tasks-columns=uuid,state,args,kwargs,result,received,runtime,worker",
        "--natural-time=False",
    ]
