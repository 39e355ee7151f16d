"""What was seen from outside: what the client was promised and told, what struck when, who was who."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Hit:
    """A fault that reached one worker, its gang or its way to Redis."""

    part: str
    why: str
    began: float
    ended: float = float("inf")


@dataclass(frozen=True)
class Delivery:
    """A webhook that arrived."""

    webhook_id: str
    job_id: str
    kind: str
    """Such as video.completed."""
    status: str
    """Of the job in the body."""


@dataclass
class History:
    """Filled by the client, the faults and the watcher; read once everything has stopped."""

    accepted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By idempotency key: the ids of the jobs that its 200s named."""
    told: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By job: every status that the API told, in order, repeats left out."""
    refusals: list[str] = field(default_factory=list)
    """Answers that no fault excuses."""
    hits: list[Hit] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    """By worker id: which part of the stack it was."""
    deliveries: list[Delivery] = field(default_factory=list)
    limits: dict[str, dict[str, int]] = field(default_factory=dict)
    """By job: the seconds that its client let it wait (`max_waiting_s`) and compute (`max_running_s`)."""
    twins: dict[str, str] = field(default_factory=dict)
    """By a job that went on from a checkpoint: one of the same request that nothing disturbed."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def promise(self, key: str, job_id: str) -> None:
        """The client got a 200 for this key."""
        with self._lock:
            self.accepted[key].add(job_id)

    def tell(self, job_id: str, status: str) -> None:
        """The API said so."""
        with self._lock:
            statuses = self.told[job_id]
            if statuses[-1:] != [status]:
                statuses.append(status)

    @contextmanager
    def hit(self, part: str, why: str) -> Iterator[None]:
        """The block strikes this worker and heals it again."""
        struck = Hit(part, why, time.time())
        with self._lock:
            self.hits.append(struck)
        try:
            yield
        finally:
            struck.ended = time.time()

    def was_hit(self, worker_id: str, since: float, until: float) -> bool:
        """Whether a fault reached that worker in that time (unix seconds, as coarse as Redis notes them)."""
        part = self.parts.get(worker_id)
        return any(
            hit.part == part and hit.began <= until + 2 and hit.ended >= since - 2
            for hit in self.hits
        )

    @property
    def jobs(self) -> set[str]:
        """Every accepted job."""
        return {job_id for ids in self.accepted.values() for job_id in ids}
