"""What happened so far and what waits, counted in Redis: right however many processes there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from jobs.connection import pairs, translated
from jobs.store import JobStore

BOUNDS_S = (
    0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400,
)  # fmt: skip
"""Of the histograms' buckets, as the scripts' prelude has them; one more holds what is longer."""


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

    def histograms(
        self, what: str, labels: int
    ) -> Iterator[tuple[tuple[str, ...], tuple[int, ...], float]]:
        """Every histogram of `what`: labels, observations up to each bound and in all, seconds in all."""
        buckets = {(values[0], values[1:]): n for values, n in self.of(f"{what}_le", labels + 1)}
        bounds = [f"{bound:g}" for bound in BOUNDS_S] + ["inf"]
        for values, ms in self.of(f"{what}_sum", labels):
            counts = (buckets.get((bound, values), 0) for bound in bounds)
            yield values, tuple(accumulate(counts)), ms / 1000


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
