"""Who leads: a lock key in Redis, renewed; the others wait.

The lead may end unseen (a stopped process, a dead network), so what only a leader may do carries its
token and is refused by the scripts once another leads or the lock has run out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from jobs.errors import StoreUnavailable
from jobs.relay.board import Board

LEAD_S = 5.0
"""How long the lead lasts without renewal: the longest hand-over after a death."""


class Leader:
    """One relay's claim to the lead."""

    def __init__(self, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._clock = clock
        self._until: float | None = None

    @property
    def leads(self) -> bool:
        """Whether the lead was held when last asked for and cannot have run out since."""
        return self._until is not None and self._clock() < self._until

    def keep(self) -> bool:
        """Take the lead, or renew it once a fifth of it is gone. False: another leads.

        Raises:
            StoreUnavailable: Redis does not answer; the lead counts as lost.
        """
        asked_at = self._clock()  # before the question, so that the lock never ends first
        if self._until is not None and asked_at < self._until - 0.8 * LEAD_S:
            return True
        self._until = None
        if not self._board.lead(LEAD_S):
            return False
        self._until = asked_at + LEAD_S
        return True

    def resign(self) -> None:
        """Let a standby lead at once."""
        if self._until is None:
            return
        self._until = None
        try:
            self._board.unlead()
        except StoreUnavailable:
            return  # the lock runs out by itself
