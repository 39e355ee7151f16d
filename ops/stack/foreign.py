"""A Redis that is not ours: does it answer, and does it keep what it acknowledges?"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import redis

from jobs.address import read
from jobs.connection import open_redis
from jobs.errors import SettingsError
from jobs.settings import Settings
from ops.stack.home import running


def checked(settings: Settings, *, strict: bool) -> list[str]:
    """Warnings about the server that a role is to use, at its start; none where `serve` has looked.

    A server that is away is no matter for a warning: every role waits for it.

    Raises:
        SettingsError: with `strict`, if there is anything to warn of, or no answer.
    """
    url = settings.redis_url
    run = running(settings.home_path)
    if url is None or (run is not None and run.redis_url == url):
        return []
    try:
        warnings = check_redis(url, settings.durability)
    except SettingsError:
        if strict:
            raise
        return []
    return refused_if(strict, warnings)


def refused_if(strict: bool, warnings: list[str]) -> list[str]:
    """The warnings.

    Raises:
        SettingsError: there are some, and `strict`.
    """
    if strict and warnings:
        raise SettingsError("; ".join(warnings))
    return warnings


def check_redis(url: str, durability: str | None = None) -> list[str]:
    """Warnings, one line each, about a server that may lose or evict what it acknowledged.

    Raises:
        SettingsError: it does not answer, or the URL is malformed.
    """
    try:
        with open_redis(url) as client:
            client.ping()
            warnings = [] if not read(url).sentinels else _replicas(client)
            if durability == "power" and not client.command_info("WAITAOF").get("waitaof"):
                warnings.append("RUSHES_DURABILITY=power needs WAITAOF, which this Redis has not")
            try:
                found: Mapping[str, str] = client.config_get(
                    "maxmemory-policy", "appendonly", "appendfsync"
                )
            except redis.ResponseError:
                refused = "Redis refuses CONFIG: check yourself that it runs noeviction and AOF"
                return [*warnings, refused]
    except redis.RedisError as error:
        raise SettingsError(f"RUSHES_REDIS_URL {without_password(url)}: {error}") from None
    return warnings + judge(found)


def _replicas(client: redis.Redis) -> list[str]:
    if int(client.info("replication").get("connected_slaves", 0)):
        return []
    return ["the Redis master has no replica: a failover has nowhere to go"]


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
    """The URL fit for a log: what may be secret in it left out."""
    parts = urlsplit(url)
    if parts.password is not None:
        host = parts.netloc.rpartition("@")[2]
        parts = parts._replace(netloc=f"{parts.username or ''}:***@{host}")
    return urlunsplit(parts._replace(query=""))
