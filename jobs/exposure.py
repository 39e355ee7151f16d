"""Who can reach an address, and whether everybody who can may call."""

from __future__ import annotations

import ipaddress
import os

from jobs.errors import SettingsError
from jobs.keys import Keys
from jobs.settings import Settings


def is_loopback(host: str) -> bool:
    """True when only this machine reaches a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: whatever it resolves to now may change
        return False


def is_open(settings: Settings) -> bool:
    """Whether everybody who reaches the API may call it while there are no keys."""
    return settings.open or is_loopback(settings.host)


def check_guarded(settings: Settings, keys: Keys) -> None:
    """Refuse to serve beyond loopback what nothing guards.

    Raises:
        SettingsError: one line naming both ways out.
        StoreUnavailable: Redis does not answer.
    """
    if not is_open(settings) and not keys.some():
        raise SettingsError(
            f"{settings.host} is reachable from outside and there are no API keys: make one with "
            "`rushes keys create NAME`, or set RUSHES_OPEN=1 to serve everybody"
        )


def check_flower_guarded(settings: Settings) -> None:
    """The same for the dashboard; what guards it is a password, or Flower's own OAuth (FLOWER_AUTH).

    Raises:
        SettingsError: it would listen beyond loopback, or act, with neither.
    """
    if settings.flower_basic_auth is not None or os.environ.get("FLOWER_AUTH"):
        return
    if not is_loopback(settings.flower_host):
        raise SettingsError(
            f"Flower on {settings.flower_host} is reachable from outside this machine: set "
            "RUSHES_FLOWER_BASIC_AUTH to user:password, or RUSHES_FLOWER_HOST to 127.0.0.1"
        )
    if not settings.flower_read_only:
        raise SettingsError(
            "RUSHES_FLOWER_READ_ONLY=0 lets whoever reaches Flower cancel jobs: set "
            "RUSHES_FLOWER_BASIC_AUTH to user:password too"
        )
