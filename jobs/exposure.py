"""Who can reach an address, and whether everybody who can may call."""

from __future__ import annotations

import ipaddress

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
