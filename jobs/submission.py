"""What a submit is held to beside the job itself, and what its script's refusals mean."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.errors import KeyReused, OverBudget, QueueFull, RushesError, StorageUnavailable


@dataclass(frozen=True)
class Once:
    """An idempotency key of the owner's, and what it stands for."""

    key: str
    """A digest of what the client sent."""
    body: str
    """A digest of what the client asked for."""


@dataclass(frozen=True)
class Quota:
    """What an owner may have; None: no limit."""

    max_queued: int | None = None
    daily_device_s: float | None = None
    """Device-seconds that end on one UTC day, the estimates of its live jobs included."""


NO_QUOTA = Quota()
DELETED = "the job of this Idempotency-Key was deleted: use a new key"
OTHER_BODY = "this Idempotency-Key was used with another body: use a new key"


def refusal(answer: str, rest: Sequence[str], max_queued: int, quota: Quota) -> RushesError:
    """The error that the script's `answer` stands for; `rest` is what it said besides."""
    match answer:
        case "full":
            return QueueFull(f"{max_queued} jobs wait already; try again later")
        case "owner full":
            return QueueFull(f"{quota.max_queued} of your jobs wait already; try again later")
        case "budget":
            left_s = 86400 - int(time.time()) % 86400
            return OverBudget(
                f"{float(rest[0]) / 1000:.0f} of your {quota.daily_device_s:g} device-seconds of this day "
                "are left, too few for this job",
                retry_after_s=left_s,
            )
        case "deleted":
            return KeyReused(DELETED)
        case "late":
            return StorageUnavailable("the input images were not stored in time")
    return KeyReused(OTHER_BODY)
