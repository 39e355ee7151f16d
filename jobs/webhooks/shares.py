"""Who may have a delivery under way: receivers that answer never wait for those that do not.

A delivery to a receiver that hangs takes a thread until its timeout. So every receiver goes in the lane
that its last attempt put it in, and a lane has its own bounds: what hangs fills its lane and no other,
whosever it is and however many names it has.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from jobs.relay.board import Hook

PROMPT_S = 5.0
"""An attempt that took longer than this, with whatever outcome, makes its receiver a slow one."""
CROWDED_S = 2.0
"""How long an event waits that finds no place in its lane."""
SLOW_CROWDED_S = 10.0
"""The same for a slow receiver's: there a place is free once in a timeout."""
_REMEMBERED = 1000


class Lane(StrEnum):
    """What the last attempt said of a receiver."""

    PROMPT = "prompt"
    """It was over soon."""
    NEW = "new"
    """There was none; so is each of the ever new names that a client may give one slow receiver."""
    SLOW = "slow"
    """It took long, or to the timeout."""


@dataclass(frozen=True)
class Bounds:
    """Deliveries that a lane holds at once."""

    receiver: int
    owner: int
    all: int


@dataclass(frozen=True)
class Place:
    """A delivery under way."""

    receiver: str
    owner: str
    lane: Lane


@dataclass(frozen=True)
class Later:
    """No place for this event now; it may ask again."""

    seconds: float


def bounds(threads: int, per_receiver: int) -> dict[Lane, Bounds]:
    """Who shares `threads`: a quarter of them is out of reach of all that is new or slow."""

    def part(of: int) -> int:
        return max(1, threads // of)

    return {
        Lane.PROMPT: Bounds(per_receiver, part(4), threads),
        Lane.NEW: Bounds(1, part(8), part(2)),
        Lane.SLOW: Bounds(1, part(16), part(4)),
    }


class Shares:
    """Counts deliveries under way, by receiver and, in each lane, by owner and in all."""

    def __init__(
        self, lanes: dict[Lane, Bounds], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lanes = lanes
        self._clock = clock
        self._lock = threading.Lock()
        self._receivers: Counter[str] = Counter()
        self._owners: Counter[tuple[Lane, str]] = Counter()
        self._all: Counter[Lane] = Counter()
        self._known: OrderedDict[str, Lane] = OrderedDict()
        self._resting: dict[str, float] = {}

    @property
    def taken(self) -> int:
        """How many are under way."""
        with self._lock:
            return self._all.total()

    def take(self, hook: Hook) -> Place | Later:
        """A place, counted until `give_back`, or when to ask again."""
        receiver, owner = receiver_of(hook), hook.job.owner
        with self._lock:
            rest_s = self._resting.get(receiver, 0.0) - self._clock()
            if rest_s > 0:
                return Later(rest_s)
            self._resting.pop(receiver, None)
            lane = self._known.get(receiver, Lane.NEW)
            most = self._lanes[lane]
            if (
                self._receivers[receiver] >= most.receiver
                or self._owners[lane, owner] >= most.owner
                or self._all[lane] >= most.all
            ):
                return Later(SLOW_CROWDED_S if lane is Lane.SLOW else CROWDED_S)
            self._receivers[receiver] += 1
            self._owners[lane, owner] += 1
            self._all[lane] += 1
            return Place(receiver, owner, lane)

    def give_back(self, place: Place, *, took_s: float, rest_s: float = 0.0) -> None:
        """It is over after `took_s`; the receiver gets nothing for `rest_s`."""
        receiver = place.receiver
        with self._lock:
            _drop(self._receivers, receiver)
            _drop(self._owners, (place.lane, place.owner))
            _drop(self._all, place.lane)
            self._known[receiver] = Lane.PROMPT if took_s <= PROMPT_S else Lane.SLOW
            self._known.move_to_end(receiver)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            if rest_s > 0:
                if len(self._resting) >= _REMEMBERED:
                    del self._resting[min(self._resting, key=self._resting.__getitem__)]
                self._resting[receiver] = self._clock() + rest_s


def receiver_of(hook: Hook) -> str:
    """Host and port, as one receiver is told from another."""
    return urlsplit(hook.url).netloc.lower()


def _drop(counter: Counter[Any], name: object) -> None:
    counter[name] -= 1
    if counter[name] <= 0:
        del counter[name]
