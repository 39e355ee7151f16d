"""`rushes flower`: the Celery dashboard over our broker. A job is a task of the same id there."""

from __future__ import annotations

import os
from pathlib import Path

from jobs.celery_app import make_celery
from jobs.errors import SettingsError
from jobs.exposure import is_loopback
from jobs.settings import Settings
from jobs.store import JobStore
from ops.flower_tasks import formatter
from ops.stack.home import running

SAVE_MS = 10_000
"""How often Flower writes its state: without it a killed Flower forgets every task."""


def run_flower(settings: Settings) -> None:
    """Run Flower until SIGTERM or Ctrl-C. Without RUSHES_REDIS_URL: that of the running `serve`.

    Raises:
        SettingsError: no Redis is known, or nothing guards what must be guarded.
    """
    arguments = flower_arguments(settings, oauth=bool(os.environ.get("FLOWER_AUTH")))
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
    app.start(["flower", *arguments])


def state_file(settings: Settings) -> Path:
    """Where Flower keeps the tasks it has seen."""
    return settings.home_path / "flower" / "state"


def flower_arguments(settings: Settings, *, oauth: bool) -> list[str]:
    """Flower's command line.

    Args:
        settings: where it listens and what it may.
        oauth: Flower's own OAuth is set up, by its FLOWER_AUTH and FLOWER_OAUTH2_... variables.

    Raises:
        SettingsError: it would listen beyond loopback, or act, with neither password nor OAuth.
    """
    guarded = oauth or settings.flower_basic_auth is not None
    if not is_loopback(settings.flower_host) and not guarded:
        raise SettingsError(
            f"Flower on {settings.flower_host} is reachable from outside this machine: set "
            "RUSHES_FLOWER_BASIC_AUTH to user:password, or RUSHES_FLOWER_HOST to 127.0.0.1"
        )
    if not settings.flower_read_only and not guarded:
        raise SettingsError(
            "RUSHES_FLOWER_READ_ONLY=0 lets whoever reaches Flower cancel jobs: set "
            "RUSHES_FLOWER_BASIC_AUTH to user:password too"
        )
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
