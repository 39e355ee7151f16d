"""What a fault is, and where it strikes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random

from jobs.connection import translated
from jobs.errors import StoreUnavailable
from jobs.workers import LiveWorker
from tests.chaos.client import Clients
from tests.chaos.history import History
from tests.chaos.part import Part
from tests.chaos.stack import Stack

PATIENCE_S = 40.0


class NothingToStrike(Exception):
    """What the fault needs did not come about in time; it is counted as not injected."""


@dataclass
class Site:
    """Where a fault strikes."""

    stack: Stack
    clients: Clients
    history: History
    random: Random
    """Of this one fault: the same at every replay of the seed."""
    began: float = 0.0
    """When it struck, `time.monotonic()`."""
    hurt: frozenset[str] = frozenset()
    """The jobs that ran then."""

    def begin(self) -> None:
        """It strikes now: what it costs is counted from here."""
        self.began = time.monotonic()
        with suppress(StoreUnavailable), translated():
            running = self.stack.store.redis.hkeys(self.stack.store.key("running"))
            self.hurt = frozenset(map(str, running))

    def await_some(self, find: Callable[[], LiveWorker | None], what: str) -> LiveWorker:
        """The worker that `find` gives, as soon as there is one.

        Raises:
            NothingToStrike: there was none for `PATIENCE_S`.
        """
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            if (found := find()) is not None:
                self.begin()
                return found
            time.sleep(0.02)
        raise NothingToStrike(what)

    def busy_worker(self) -> LiveWorker:
        """One whose gang computes a job."""
        return self.await_some(
            lambda: self._any(each for each in self.stack.ready() if each.gang_attempt),
            "no gang computes",
        )

    def free_worker(self) -> LiveWorker:
        """One whose gang is warm and idle."""
        return self.await_some(
            lambda: self._any(each for each in self.stack.ready() if each.free), "no gang is free"
        )

    def leader(self) -> Part:
        """The relay that leads."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            if (leader := self.stack.leader()) is not None:
                self.begin()
                return leader
            time.sleep(0.05)
        raise NothingToStrike("no relay leads")

    @contextmanager
    def hit(self, worker: LiveWorker, why: str) -> Iterator[Part]:
        """The block strikes that worker, which explains the end of its tries."""
        part = self.stack.part_of(worker)
        with self.history.hit(part.name, why):
            yield part

    def pause(self, least_s: float, most_s: float) -> float:
        """Sleep for a time drawn from the seed."""
        seconds = self.random.uniform(least_s, most_s)
        time.sleep(seconds)
        return seconds

    def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> bool:
        """Wait for the condition, over outages; False: it did not come."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            try:
                if condition():
                    return True
            except StoreUnavailable:
                pass
            time.sleep(0.02)
        return False

    def _any(self, workers: Iterable[LiveWorker]) -> LiveWorker | None:
        found = sorted(workers, key=lambda each: each.info.id)
        return self.random.choice(found) if found else None


@dataclass(frozen=True)
class Fault:
    """One kind. `strike` returns when it is healed, with what it did in words."""

    name: str
    strike: Callable[[Site], str]
    missing: Callable[[Stack], str] = lambda _: ""
    """Why this machine cannot do it; empty: it can."""
