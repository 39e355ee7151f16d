"""`rushes flower`: the Celery dashboard over our broker. A job is a task of the same id there."""

from __future__ import annotations

import os
from pathlib import Path

from jobs.celery_app import make_celery
from jobs.errors import SettingsError
from jobs.exposure import is_loopback
from jobs.settings import Settings
from ops.stack.home import running

SAVE_MS = 10_000
"""How often Flower writes its state: without it a killed Flower forgets every task."""


def run_flower(settings: Settings) -> None:
    """Run Flower until SIGTERM or Ctrl-C. Without RUSHES_REDIS_URL: that of the running `serve`.

    Raises:
        SettingsError: no Redis is known, or it would listen beyond loopback without a password.
    """
    arguments = flower_arguments(settings)
    if settings.redis_url is None:
        run = running(settings.home_path)
        if run is None:
            raise SettingsError(
                f"no rushes serve runs on RUSHES_HOME {settings.home_path}: start it, or set "
                "RUSHES_REDIS_URL"
            )
        settings = settings.model_copy(update={"redis_url": run.redis_url})
    if settings.flower_basic_auth is not None:
        # Flower reads it there; on the command line everybody on the machine could.
        os.environ["FLOWER_BASIC_AUTH"] = settings.flower_basic_auth.get_secret_value()
    state_file(settings).parent.mkdir(parents=True, exist_ok=True)
    make_celery(settings).start(["flower", *arguments])


def state_file(settings: Settings) -> Path:
    """Where Flower keeps the tasks it has seen."""
    return settings.home_path / "flower" / "state"


def flower_arguments(settings: Settings) -> list[str]:
    """Flower's command line.

    Raises:
        SettingsError: it would listen beyond loopback without a password.
    """
    if not is_loopback(settings.flower_host) and settings.flower_basic_auth is None:
        raise SettingsError(
            f"Flower on {settings.flower_host} is reachable from outside this machine: set "
            "RUSHES_FLOWER_BASIC_AUTH to user:password, or RUSHES_FLOWER_HOST to 127.0.0.1"
        )
    return [
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
        f"--logging={'debug' if settings.log_level == 'debug' else 'warning'}",
        "--persistent=True",
        f"--db={state_file(settings)}",
        f"--state-save-interval={SAVE_MS}",
        "--max-tasks=10000",
        "--read-only=True",
        "--tasks-columns=uuid,state,received,started,runtime,worker",
        "--natural-time=False",
    ]
