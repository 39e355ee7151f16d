"""How many new jobs a caller may make in a time, counted in Redis over all API processes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import limits
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from jobs.connection import translated
from jobs.store import JobStore


@dataclass(frozen=True)
class Allowance:
    """What is left of a rate after a call."""

    granted: bool
    limit: int
    window_s: int
    remaining: int
    reset_s: int
    """Until more is left."""


class Rates:
    """Sliding windows of the `limits` library."""

    def __init__(self, store: JobStore) -> None:
        storage = RedisStorage(
            "redis://",  # only read where there is no pool
            connection_pool=store.redis.connection_pool,
            key_prefix=store.key("rates"),
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    def take(self, rate: str, caller: str) -> Allowance:
        """Count one more for `caller`, unless that is too many.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        item = limits.parse(rate)
        with translated():
            granted = self._limiter.hit(item, caller)
            stats = self._limiter.get_window_stats(item, caller)
        return Allowance(
            granted=granted,
            limit=item.amount,
            window_s=item.get_expiry(),
            remaining=max(0, int(stats.remaining)) if granted else 0,
            reset_s=max(1, math.ceil(stats.reset_time - time.time())),
        )
