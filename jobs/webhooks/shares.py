"""Who may have a delivery under way: so many a receiver, so many an owner, none that asked for rest."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

from jobs.relay.board import Hook

CROWDED_S = 2.0
"""How long an event waits whose receiver or owner has its share already."""
_REMEMBERED = 1000


class Shares:
    """Counts deliveries under way, by receiver and by owner.

    An owner's bound holds where a client names ever new hosts that all lead to one slow receiver.
    """

    def __init__(
        self, *, per_receiver: int, per_owner: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_receiver = per_receiver
        self._per_owner = per_owner
        self._clock = clock
        self._lock = threading.Lock()
        self._receivers: Counter[str] = Counter()
        self._owners: Counter[str] = Counter()
        self._resting: dict[str, float] = {}

    @property
    def taken(self) -> int:
        """How many are under way."""
        with self._lock:
            return self._owners.total()

    def take(self, hook: Hook) -> float:
        """0: it may go, and is counted until `give_back`; else the seconds until it may ask again."""
        receiver, owner = receiver_of(hook), hook.job.owner
        with self._lock:
            rest_s = self._resting.get(receiver, 0.0) - self._clock()
            if rest_s > 0:
                return rest_s
            self._resting.pop(receiver, None)
            crowded = self._receivers[receiver] >= self._per_receiver
            if crowded or self._owners[owner] >= self._per_owner:
                return CROWDED_S
            self._receivers[receiver] += 1
            self._owners[owner] += 1
            return 0.0

    def give_back(self, hook: Hook, rest_s: float) -> None:
        """It is over; the receiver gets nothing for `rest_s`."""
        receiver = receiver_of(hook)
        with self._lock:
            for counter, name in ((self._receivers, receiver), (self._owners, hook.job.owner)):
                counter[name] -= 1
                if counter[name] <= 0:
                    del counter[name]
            if rest_s > 0:
                if len(self._resting) >= _REMEMBERED:
                    del self._resting[min(self._resting, key=self._resting.__getitem__)]
                self._resting[receiver] = self._clock() + rest_s


def receiver_of(hook: Hook) -> str:
    """Host and port, as one receiver is told from another."""
    return urlsplit(hook.url).netloc.lower()
