"""How many jobs may be released, which releases to send, and which nobody claimed in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jobs.relay.board import Release
from jobs.workers import LiveWorker


def free_gangs(workers: Iterable[LiveWorker]) -> Counter[str]:
    """By model: gangs that are Ready and compute nothing, and whose worker has a free slot.

    A job stays in the order, where priority and fairness can still move it, until one of them is there
    to take it.
    """
    return Counter(worker.info.model for worker in workers if worker.free)


class ReleaseWatch:
    """Remembers since when each unclaimed release is seen and which ones this relay has sent.

    Args:
        ttl_s: a release unclaimed for this long returns to the order.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._since: dict[Release, float] = {}
        self._sent: set[Release] = set()

    def restart(self) -> None:
        """Forget everything: what is found later may not have been sent."""
        self._since = {}
        self._sent = set()

    def look(self, released: Iterable[Release], now_s: float) -> tuple[Release, ...]:
        """Note what is unclaimed at `now_s` (monotonic seconds); return what was so for too long."""
        self._since = {release: self._since.get(release, now_s) for release in released}
        self._sent &= self._since.keys()
        return tuple(
            release for release, since in self._since.items() if now_s - since >= self._ttl_s
        )

    def unsent(self, released: Iterable[Release]) -> tuple[Release, ...]:
        """Those that this relay has not sent: new, or left by a leader that died before sending."""
        return tuple(release for release in released if release not in self._sent)

    def sent(self, release: Release) -> None:
        """The message is out."""
        self._sent.add(release)
