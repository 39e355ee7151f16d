"""The single roles, each from the settings alone."""

from __future__ import annotations

from jobs import log
from jobs.settings import Settings


def run_api(settings: Settings) -> None:
    """Serve HTTP until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: a setting that stops start-up.
    """
    from api.server import run

    log.configure(settings.log_level)
    run(settings)
