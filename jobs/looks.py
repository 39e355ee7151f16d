"""Many clients' looks at their jobs in one round trip: while one is under way, the next ones gather.

Group commit, applied to reads: nobody waits for a timer, a lone look goes out at once, and under many
polling clients a round trip and its wake-ups are shared. By hand, since the data loaders at hand are
asyncio's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pydantic_core import from_json

from jobs.connection import Scripts, pairs
from jobs.errors import NotFound, StoreUnavailable
from jobs.outlook import Look, Standing
from jobs.record import decode

MOST = 100
"""Looks of one round trip: they hold Redis for about two milliseconds."""


class _Ask:
    """One look that is wanted."""

    def __init__(self, job_id: str, owner: str) -> None:
        self.job_id = job_id
        self.owner = owner
        self.answered = False
        self.answer: tuple[str, Sequence[str]] | None = None
        self.error: StoreUnavailable | None = None
        self._woken = threading.Lock()  # lighter than an Event, which is made of three
        self._woken.acquire()

    def wait(self) -> None:
        """Until it is woken, which happens once: it is answered, or its turn to ask has come."""
        self._woken.acquire()

    def wake(self) -> None:
        self._woken.release()


class Looks:
    """Looks at jobs, from any number of threads or greenlets."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._asks: list[_Ask] = []
        self._asking = False
        self._list = threading.Lock()

    def __call__(self, job_id: str, owner: str = "") -> Look:
        """The record, and where the job stands; with an owner, only that owner's.

        Raises:
            NotFound: no such job, or not the owner's.
            StoreUnavailable: Redis does not answer.
        """
        ask = _Ask(job_id, owner)
        with self._list:
            self._asks.append(ask)
            others_turn, self._asking = self._asking, True
        if others_turn:
            ask.wait()
        if not ask.answered:
            self._ask_for_all(ask)
        if ask.error is not None:
            raise ask.error
        if ask.answer is None:
            raise NotFound(f"no job {job_id!r}")
        text, place = ask.answer
        return Look(decode(from_json(text)), standing(place))

    def _ask_for_all(self, own: _Ask) -> None:
        """For everybody who came meanwhile; `own` is the oldest. Then it is the next one's turn."""
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
            with self._list:
                successor = self._asks[0] if self._asks else None
                self._asking = successor is not None
            # First, so that Redis looks for the next ones while these are being answered.
            if successor is not None:
                successor.wake()
            for ask in asks:
                ask.answered = True
                if ask is not own:
                    ask.wake()


def standing(found: Sequence[str]) -> Standing:
    """What the scripts tell of a job's place."""
    position, owners, whole_s = found
    return Standing(
        queue_position=int(position) if position else None,
        owners=int(owners),
        whole_s=float(whole_s) if whole_s else None,
    )


def look_of(found: Sequence[list[str]]) -> Look:
    """What the scripts tell of a job: its record, then its place."""
    record, place = found
    return Look(decode(pairs(record)), standing(place))
