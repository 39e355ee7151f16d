"""What Redis keeps beside the records, to count and to order them: it comes and goes with live jobs.

A count too high refuses jobs for ever, an owner's too high lets none of it run; a job that is in no
order is never released.
"""

from __future__ import annotations

from typing import cast

from jobs.connection import translated
from jobs.store import JobStore

BOOKS = (
    *("queued", "running", "released", "gangs", "deadlines", "preempting", "outbox"),
    *("tally:*", "held:*", "levels:*", "order:*", "queue:*"),
)
"""As in `jobs/scripts/prelude.lua`: all that is zero or gone where no job is live and no worker either."""


def uneven(store: JobStore) -> dict[str, str]:
    """By key: what it still holds.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    found: dict[str, str] = {}
    with translated():
        for book in BOOKS:
            for key in store.redis.scan_iter(store.key(book), count=1000):
                held = _content(store, key)
                if held != "0":
                    found[key.removeprefix(store.settings.redis_prefix)] = held
    return found


def _content(store: JobStore, key: str) -> str:
    redis = store.redis
    match redis.type(key):
        case "none":  # gone since
            return "0"
        case "string":
            return str(redis.get(key) or "0")
        case "hash":
            return str(redis.hgetall(key))
        case "set":
            return str(sorted(cast("set[str]", redis.smembers(key))))
        case _:
            return str(redis.zrange(key, 0, -1, withscores=True))
