"""The connection to Redis: its own short retries, its errors made ours, its scripts loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from jobs.errors import SettingsError, StoreUnavailable
from jobs.settings import Settings

ANSWER_S = 3.0
"""How long one command may take: beyond the slowest fsync, below a client's patience."""
CONNECTIONS = 32
"""Of one process. Redis answers one command at a time: more would only wait there, each at the price
of a connection."""

_SCRIPTS = Path(__file__).parent / "scripts"


def connect(settings: Settings) -> redis.Redis:
    """A client for `settings.redis_url`, with retries shorter than redis-py's own 3.3 s.

    A refused connection is tried again twice within 0.3 s; an answer that does not come in `ANSWER_S` is
    not waited for twice.

    Raises:
        SettingsError: no or a malformed RUSHES_REDIS_URL.
    """
    if settings.redis_url is None:
        raise SettingsError("RUSHES_REDIS_URL is not set: name the server, or run `rushes serve`")
    retry = Retry(
        ExponentialBackoff(cap=0.2, base=0.05), 2, supported_errors=(redis.ConnectionError,)
    )
    try:
        pool = redis.BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=CONNECTIONS,
            timeout=ANSWER_S,
            decode_responses=True,
            retry=retry,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=1.0,
            health_check_interval=15,
        )
    except ValueError as error:
        raise SettingsError(f"RUSHES_REDIS_URL is malformed: {error}") from None
    return redis.Redis(connection_pool=pool)


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


class Scripts:
    """The Lua scripts of `jobs/scripts/`, each with the prelude before it.

    Called with a script's name and its own arguments; prefix and retention go before them.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
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
        with translated():
            return self._scripts[name](args=(*self._first, *args))


def pairs(flat: list[str]) -> dict[str, str]:
    """A hash as HGETALL gives it inside a script."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
