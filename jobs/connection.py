"""The connection to Redis: its own short retries, its errors made ours, its scripts loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from jobs.address import read
from jobs.errors import SettingsError, StoreUnavailable
from jobs.settings import Settings

ANSWER_S = 3.0
"""How long one command may take: beyond the slowest fsync, below a client's patience."""
SENTINEL_ANSWER_S = 0.5
"""The same for a Sentinel: there are others to ask."""
COPY_S = 1.0
"""How long a copy on a replica, or on a disk, is waited for."""
CONNECTIONS = 32
"""Of one process. Redis answers one command at a time: more would only wait there, each at the price
of a connection."""

_SCRIPTS = Path(__file__).parent / "scripts"


def connect(settings: Settings) -> redis.Redis:
    """A client for `settings.redis_url`; see `open_redis`.

    Raises:
        SettingsError: no or a malformed RUSHES_REDIS_URL.
    """
    if settings.redis_url is None:
        raise SettingsError("RUSHES_REDIS_URL is not set: name the server, or run `rushes serve`")
    return open_redis(settings.redis_url)


def open_redis(url: str) -> redis.Redis:
    """A client for a Redis URL, with retries shorter than redis-py's own 3.3 s.

    A refused connection is tried again twice within 0.3 s; an answer that does not come in `ANSWER_S` is
    not waited for twice.

    Raises:
        SettingsError: the URL is malformed.
    """
    options: dict[str, Any] = {
        "max_connections": CONNECTIONS,
        "timeout": ANSWER_S,
        "decode_responses": True,
        "retry": Retry(
            ExponentialBackoff(cap=0.2, base=0.05), 2, supported_errors=(redis.ConnectionError,)
        ),
        "socket_timeout": ANSWER_S,
        "socket_connect_timeout": 1.0,
        "health_check_interval": 15,
    }
    try:
        address = read(url)
        if not address.sentinels:
            pool = redis.BlockingConnectionPool.from_url(url, **options)
            return redis.Redis(connection_pool=pool)
    except ValueError as error:
        raise SettingsError(f"RUSHES_REDIS_URL is malformed: {error}") from None
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        sentinel_kwargs={
            "socket_timeout": SENTINEL_ANSWER_S,
            "socket_connect_timeout": SENTINEL_ANSWER_S,
            **address.sentinel_options,
        },
    )
    options |= address.options | {"ssl": address.tls}
    of_master = _SentinelPool(address.service, sentinel, **options)  # type: ignore[no-untyped-call]
    return redis.Redis(connection_pool=of_master)


class _SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to whichever server is the master now, bounded like those to one server."""


@contextmanager
def translated() -> Iterator[None]:
    """Around every use of Redis: whatever redis-py raises becomes `StoreUnavailable`.

    The message has the kind and the server's first words; no URL, so no password.
    """
    try:
        yield
    except redis.RedisError as error:
        raise StoreUnavailable(f"the store does not answer: {_short(error)}") from error


def _short(error: redis.RedisError) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


_ANSWERED = frozenset({"submit", "cancel", "delete"})
"""Scripts that a client is told the end of. What a failover takes of a worker's or the relay's is done
again: the job is then silent, and tried once more."""


class Scripts:
    """The Lua scripts of `jobs/scripts/`, each with the prelude before it.

    Called with a script's name and its own arguments; prefix and retention go before them.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._copies = _copies(settings)
        self._first = (settings.redis_prefix, settings.retention_s)
        prelude = (_SCRIPTS / "prelude.lua").read_text()
        self._scripts = {
            path.stem: client.register_script(f"{prelude}\n{path.read_text()}")
            for path in _SCRIPTS.glob("*.lua")
            if path.stem != "prelude"
        }

    def __call__(self, name: str, *args: str | float) -> Any:
        """Run `name`; the answer is as Redis gives it.

        Raises:
            StoreUnavailable: Redis does not answer or refuses.
        """
        given = (*self._first, *args)
        with translated():
            if self._copies is None or name not in _ANSWERED:
                return self._scripts[name](args=given)
            # On one connection: a server waits for what came by that connection.
            with self._client.pipeline(transaction=False) as pipe:
                self._scripts[name](args=given, client=pipe)
                pipe.execute_command(*self._copies)  # type: ignore[no-untyped-call]
                answer, copies = pipe.execute()
        wanted = self._copies[1:-1]
        there = copies if isinstance(copies, list) else [copies]
        if any(int(there) < int(least) for there, least in zip(there, wanted, strict=True)):
            raise StoreUnavailable(f"{self._copies[0]}: no copy of it within {COPY_S:g} s")
        return answer


def _copies(settings: Settings) -> tuple[str | int, ...] | None:
    """The command that waits until what was written is where `durability` wants it."""
    replicated = settings.redis_url is not None and bool(read(settings.redis_url).sentinels)
    timeout_ms = int(1000 * COPY_S)
    match settings.durability or ("replica" if replicated else "server"):
        case "replica":
            return "WAIT", 1, timeout_ms
        case "power":
            return "WAITAOF", 1, int(replicated), timeout_ms
    return None


def pairs(flat: list[str]) -> dict[str, str]:
    """A hash as HGETALL gives it inside a script."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def argument(value: object) -> str:
    """A value as scripts are told it; None: the empty text."""
    return "" if value is None else str(value)
