"""What the owners of jobs may have, and what they have: one look at each API key."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from jobs.connection import argument, translated
from jobs.errors import NotFound
from jobs.keys import ApiKey, Keys
from jobs.reports import QuotaReport, QuotasReport
from jobs.store import JobStore


class Limits(BaseModel):
    """New limits; what is not given stays, and None lifts it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_running: int | None = Field(default=None, ge=1, le=10**6)
    """Jobs that run at once."""
    max_queued: int | None = Field(default=None, ge=1, le=10**6)
    """Jobs that wait."""
    daily_device_s: float | None = Field(default=None, gt=0, le=1e9)
    """Device-seconds a UTC day."""


class Quotas:
    """The quotas. Every method raises `StoreUnavailable` when Redis does not answer."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._keys = Keys(store)

    def list(self) -> QuotasReport:
        """Every key that is not revoked, oldest first."""
        valid = [key for key in self._keys.list() if key.revoked_at is None]
        return QuotasReport(data=self._reports(valid))

    def show(self, owner: str) -> QuotaReport:
        """One key's.

        Raises:
            NotFound: no such key.
        """
        found = [key for key in self._keys.list() if key.id == owner]
        if not found:
            raise NotFound(f"no key {owner!r}")
        return self._reports(found)[0]

    def limit(self, owner: str, limits: Limits) -> QuotaReport:
        """Change what is set in `limits`; the next submit and release go by it.

        Raises:
            NotFound: no such key.
        """
        changes = limits.model_dump(exclude_unset=True)
        flat = [argument(part) for change in changes.items() for part in change]
        if not self._store.scripts("limit_key", owner, *flat):
            raise NotFound(f"no key {owner!r}")
        return self.show(owner)

    def _reports(self, keys: Sequence[ApiKey]) -> Sequence[QuotaReport]:
        day = str(int(time.time() // 86400))
        with translated():
            pipe = self._store.redis.pipeline()
            for key in keys:
                pipe.hmget(self._store.key("tally", key.id), "running", "queued", "estimate")
                pipe.get(self._store.key("spent", key.id, day))
            found = pipe.execute()
        return [
            QuotaReport(
                owner=key.id,
                name=key.name,
                max_running=key.max_running,
                max_queued=key.max_queued,
                daily_device_s=key.daily_device_s,
                running=int(running or 0),
                queued=int(queued or 0),
                device_s_today=int(spent_ms or 0) / 1000,
                device_s_expected=int(estimate_ms or 0) / 1000,
            )
            for key, (running, queued, estimate_ms), spent_ms in zip(
                keys, found[::2], found[1::2], strict=True
            )
        ]
