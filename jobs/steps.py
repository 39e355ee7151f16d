"""How long steps of a generation take, by what computes them: what a hung gang is told by.

In Redis and not under the home: a worker's home may be a container's and end with it, and gangs that
are alike learn from each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from jobs.connection import translated
from jobs.store import JobStore


class StepTimes:
    """Seconds by step, for each kind of gang. Both raise `StoreUnavailable`."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def load(self, gang: str) -> dict[str, float]:
        """What gangs of this kind have kept within the retention time."""
        with translated():
            stored = self._store.redis.hgetall(self._store.key("steps", gang))
        return {step: float(text) for step, text in cast("dict[str, str]", stored).items()}

    def keep(self, gang: str, seconds: Mapping[str, float]) -> None:
        """Write these over; the others stay."""
        key = self._store.key("steps", gang)
        with translated():
            pipe = self._store.redis.pipeline()
            pipe.hset(key, mapping={step: f"{value:.3f}" for step, value in seconds.items()})
            pipe.expire(key, self._store.settings.retention_s)
            pipe.execute()
