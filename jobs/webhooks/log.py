"""What became of a job's webhook events, for its owner: read, and sent once more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.errors import NotFound
from jobs.store import JobStore


@dataclass(frozen=True)
class Delivery:
    """One webhook event and the last attempts to deliver it."""

    event: str
    """The webhook-id."""
    url: str
    created_at: float
    status: str
    """pending, delivered, failed (given up), or disabled (the receiver said 410)."""
    next_attempt_at: float | None
    """Unix seconds; None: none is due."""
    attempts: tuple[dict[str, Any], ...]
    """Oldest first: `at` (unix seconds), `status` (of HTTP, or null), `error`, `duration_ms`."""


class DeliveryLog:
    """Every method raises `StoreUnavailable` when Redis does not answer."""

    def __init__(self, store: JobStore) -> None:
        self._scripts = store.scripts

    def list(self, job_id: str, *, owner: str | None = None) -> tuple[Delivery, ...]:
        """The events of a job, oldest first: one for each state at the most.

        Raises:
            NotFound: no such job, or not `owner`'s.
        """
        found = self._scripts("hook_log", job_id, owner or "")
        if found is None:
            raise NotFound(f"no job {job_id!r}")
        return tuple(map(_delivery, found))

    def replay(self, job_id: str, event: str, *, owner: str | None = None) -> Delivery:
        """Send an event of a job once more, now: the same id and body, the schedule from its start.

        Raises:
            NotFound: no such job, or not `owner`'s, or no such event of it.
        """
        found = self._scripts("hook_replay", job_id, owner or "", event)
        if found is None:
            raise NotFound(f"no webhook event {event[:100]!r} of {job_id!r}")
        return _delivery(found)


def _delivery(found: Sequence[Any]) -> Delivery:
    (event, url, created_at, status), attempts, due = found
    return Delivery(
        event=event,
        url=url,
        created_at=float(created_at),
        status=status,
        next_attempt_at=float(due) if due else None,
        attempts=tuple(json.loads(each) for each in attempts),
    )
