"""How long each fault was felt. The next one need not wait: faults overlap, as they do in the world."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from jobs.errors import NotFound, StoreUnavailable
from tests.chaos.faults import Site
from tests.chaos.stack import Stack

RECOVER_S = 180.0
"""Jobs that ran when a fault struck and have not ended by then count as stuck."""
LOOK_S = 0.2


@dataclass(frozen=True)
class Strike:
    """One fault, struck."""

    number: int
    fault: str
    detail: str
    recovered_s: float | None = None
    """From its beginning until every job that ran then has ended and the service answers.

    None: not struck. An upper bound, since the next faults may strike meanwhile.
    """
    hurt: tuple[str, ...] = ()
    """Jobs that ran when it struck."""
    stuck: tuple[str, ...] = ()
    """Jobs that had not ended `RECOVER_S` later."""


class Recoveries:
    """Watches, on a thread of its own, what the faults struck so far have not let go of yet."""

    def __init__(self, stack: Stack) -> None:
        self.strikes: list[Strike] = []
        self._stack = stack
        self._pending: list[tuple[Strike, Site]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recoveries", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """How many faults are felt now."""
        with self._lock:
            return len(self._pending)

    def add(self, strike: Strike, site: Site) -> None:
        """It has struck; watch it."""
        with self._lock:
            self._pending.append((strike, site))

    def close(self) -> list[Strike]:
        """Wait for those that are left; every strike in its order."""
        while self.pending:
            time.sleep(LOOK_S)
        self._stop.set()
        self._thread.join()
        return sorted(self.strikes, key=lambda strike: strike.number)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            with self._lock:
                pending = list(self._pending)
            for strike, site in pending:
                took_s = time.monotonic() - site.began
                live = self._live(site)
                if live and took_s < RECOVER_S:
                    continue
                if not live and took_s < RECOVER_S and not self._stack.answers():
                    continue
                felt = Strike(
                    strike.number,
                    strike.fault,
                    strike.detail,
                    took_s,
                    tuple(sorted(site.hurt)),
                    live,
                )
                with self._lock:
                    self.strikes.append(felt)
                    self._pending.remove((strike, site))

    def _live(self, site: Site) -> tuple[str, ...]:
        """Those of the jobs that ran when the fault struck that have not ended, as far as one can see."""
        live = []
        for job_id in sorted(site.hurt):
            try:
                with suppress(NotFound):  # judged in the end
                    if not self._stack.store.get(job_id).state.terminal:
                        live.append(job_id)
            except StoreUnavailable:
                live.append(job_id)
        return tuple(live)
