"""Many clients' looks at their jobs in one round trip: while one is under way, the next ones gather.

Group commit, applied to reads: nobody waits for a timer, a lone look goes out at once, and under many
polling clients a round trip and its wake-ups are shared. By hand, since the data loaders at hand are
asyncio's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.connection import Scripts, pairs
from jobs.errors import NotFound, StoreUnavailable
from jobs.outlook import Look, Standing
from jobs.record import decode

MOST = 100
"""Looks of one round trip: they hold Redis for about two milliseconds."""


@dataclass
class _Ask:
    job_id: str
    owner: str
    answer: tuple[str, Sequence[str]] | None = None
    error: StoreUnavailable | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Looks:
    """Looks at jobs, from any number of threads or greenlets."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._asks: list[_Ask] = []
        self._list = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, job_id: str, owner: str = "") -> Look:
        """The record, and where the job stands; with an owner, only that owner's.

        Raises:
            NotFound: no such job, or not the owner's.
            StoreUnavailable: Redis does not answer.
        """
        ask = _Ask(job_id, owner)
        with self._list:
            self._asks.append(ask)
        while not ask.done.is_set():
            with self._turn:  # whoever gets it asks for everybody who came meanwhile
                if not ask.done.is_set():
                    self._ask_next()
        if ask.error is not None:
            raise ask.error
        if ask.answer is None:
            raise NotFound(f"no job {job_id!r}")
        text, place = ask.answer
        return Look(decode(json.loads(text)), standing(place))

    def _ask_next(self) -> None:
        with self._list:
            asks, self._asks = self._asks[:MOST], self._asks[MOST:]
        try:
            answers = self._scripts("look", *(part for a in asks for part in (a.job_id, a.owner)))
            for ask, answer in zip(asks, answers, strict=True):
                ask.answer = answer
        except StoreUnavailable as error:
            for ask in asks:
                ask.error = error
        finally:
            for ask in asks:
                ask.done.set()


def standing(found: Sequence[str]) -> Standing:
    """What the scripts tell of a job's place."""
    position, owners, pace_s = found
    return Standing(
        queue_position=int(position) if position else None,
        owners=int(owners),
        pace_s=float(pace_s) if pace_s else None,
    )


def look_of(found: Sequence[list[str]]) -> Look:
    """What the scripts tell of a job: its record, then its place."""
    record, place = found
    return Look(decode(pairs(record)), standing(place))
