"""Which running jobs have fallen silent: judged only by what this relay itself has seen.

A beat is a counter, not a time, and the clock is this process's monotonic one. So neither a clock jump
nor an outage of Redis nor a stopped relay makes a healthy job look silent: after any gap in the looking,
every observation starts anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from jobs.relay.board import Running

_log = structlog.get_logger()


class Observer:
    """Remembers since when each (job, fence, beat) has been seen unchanged.

    Args:
        lease_s: a job unchanged for this long is silent.
        max_gap_s: looks further apart than this prove nothing about the time between.
    """

    def __init__(self, lease_s: float, max_gap_s: float) -> None:
        self._lease_s = lease_s
        self._max_gap_s = max_gap_s
        self._since: dict[Running, float] = {}
        self._looked_at: float | None = None

    def restart(self) -> None:
        """Forget everything: the lead was lost, Redis was away, writes were refused."""
        self._since = {}
        self._looked_at = None

    def look(self, running: Iterable[Running], now_s: float) -> tuple[Running, ...]:
        """Note what runs at `now_s` (monotonic seconds) and return what is silent."""
        if self._looked_at is None or now_s - self._looked_at > self._max_gap_s:
            if self._looked_at is not None and self._since:
                _log.warning(
                    "looked too late: every job's silence is counted anew",
                    gap_s=round(now_s - self._looked_at, 1),
                    max_gap_s=self._max_gap_s,
                    jobs=len(self._since),
                )
            self._since = {}
        self._looked_at = now_s
        self._since = {seen: self._since.get(seen, now_s) for seen in running}
        return tuple(seen for seen, since in self._since.items() if now_s - since >= self._lease_s)
