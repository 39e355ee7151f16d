"""A Redis that is not ours: does it answer, and does it keep what it acknowledges?"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import redis

from jobs.errors import SettingsError


def check_redis(url: str) -> list[str]:
    """Warnings, one line each, about a server that may lose or evict what it acknowledged.

    Raises:
        SettingsError: it does not answer.
    """
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=5, socket_timeout=5, decode_responses=True
        ) as client:
            client.ping()
            try:
                found: Mapping[str, str] = client.config_get(
                    "maxmemory-policy", "appendonly", "appendfsync"
                )
            except redis.ResponseError:
                return ["Redis refuses CONFIG: check yourself that it runs noeviction and AOF"]
    except (redis.RedisError, ValueError) as error:
        raise SettingsError(f"RUSHES_REDIS_URL {without_password(url)}: {error}") from None
    return judge(found)


def judge(config: Mapping[str, str]) -> list[str]:
    """What a server's configuration may cost."""
    warnings = []
    policy = config.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        warnings.append(f"Redis runs maxmemory-policy {policy}: jobs may vanish; set noeviction")
    if config.get("appendonly") == "no":
        warnings.append("Redis runs without AOF: a restart loses jobs; set appendonly yes")
    elif config.get("appendfsync") != "always":
        warnings.append(
            f"Redis runs appendfsync {config.get('appendfsync')}: a crash may lose the last "
            "acknowledged jobs; set appendfsync always"
        )
    return warnings


def without_password(url: str) -> str:
    """The URL fit for a log."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
