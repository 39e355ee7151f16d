"""What happened so far and what waits, counted in Redis: right however many processes there are."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.connection import pairs, translated
from jobs.store import JobStore


@dataclass(frozen=True)
class Waiting:
    """The waiting jobs of one model and priority."""

    model: str
    priority: int
    jobs: int
    oldest_at: float
    """Unix seconds."""


@dataclass(frozen=True)
class Reading:
    """One look at everything."""

    counts: dict[str, int]
    """By what the scripts count: "<what> <labels ...> <model>"."""
    waiting: tuple[Waiting, ...]

    def of(self, what: str, labels: int) -> list[tuple[tuple[str, ...], int]]:
        """Every count of `what`, by its labels; the last of them may have spaces."""
        split = (name.split(" ", labels) for name in self.counts)
        return [
            (tuple(parts[1:]), self.counts[" ".join(parts)])
            for parts in split
            if parts[0] == what and len(parts) == labels + 1
        ]


class Meter:
    """Reads and adds. Every method raises `StoreUnavailable` when Redis does not answer."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def count(self, what: str, *labels: str) -> None:
        """One more."""
        with translated():
            self._store.redis.hincrby(self._store.key("counts"), " ".join((what, *labels)), 1)

    def read(self) -> Reading:
        """All of it, as of one moment."""
        counts, *waiting = self._store.scripts("meter")
        return Reading(
            {name: int(value) for name, value in pairs(counts).items()},
            tuple(
                Waiting(model, int(priority), int(jobs), float(oldest_at))
                for model, priority, jobs, oldest_at in waiting
            ),
        )
