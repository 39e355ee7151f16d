"""Sends due events from the outbox: a few at a time, and never many to one receiver.

It runs beside the relay's loop in threads of its own, so that a slow receiver holds up no release, and
takes at most `per_receiver` of them, so that it holds up no other receiver either.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog

from jobs.errors import StoreUnavailable
from jobs.relay.board import Board, Hook
from jobs.webhooks.delivery import Outcome, Sender, delay_s, jitter

_log = structlog.get_logger()

_LOOK_S = 1.0
_BATCH = 32
_CROWDED_S = 2.0
"""How long an event waits whose receiver has its share of threads already."""


class Courier:
    """The sending side of the outbox; only a leading relay's does anything.

    Args:
        leads: whether this relay leads now.
        hold_s: longer than any attempt; a courier that dies with an event delays it by this.
    """

    def __init__(
        self,
        board: Board,
        sender: Sender,
        leads: Callable[[], bool],
        *,
        hold_s: float,
        threads: int = 8,
        per_receiver: int = 2,
    ) -> None:
        self._board = board
        self._sender = sender
        self._leads = leads
        self._hold_s = hold_s
        self._threads = threads
        self._per_receiver = per_receiver
        self._waiting: queue.SimpleQueue[Hook] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()
        self._wake = threading.Event()

    def kick(self) -> None:
        """There may be a new event: look now."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Send until `stop`. An attempt under way then dies with the process and is made again."""
        for number in range(self._threads):
            threading.Thread(target=self._work, name=f"webhook-{number}", daemon=True).start()
        while not stop.is_set():
            self._wake.clear()
            try:
                more = self._leads() and self._hand_out()
            except StoreUnavailable as error:
                _log.warning("webhooks wait", reason=str(error))
                more = False
            if not more:
                self._wake.wait(_LOOK_S)

    def _hand_out(self) -> bool:
        """Give due events to the threads. True: there may be more to give at once."""
        with self._lock:
            room = 2 * self._threads - self._under_way.total()
        if room <= 0:
            return False
        hooks = self._board.due_hooks(_BATCH, self._hold_s)
        for hook in hooks:
            receiver = urlsplit(hook.url).netloc.lower()
            with self._lock:
                crowded = room <= 0 or self._under_way[receiver] >= self._per_receiver
                if not crowded:
                    self._under_way[receiver] += 1
            if crowded:
                self._board.hook_later(hook, hook.attempt, _CROWDED_S * (1 + jitter()))
            else:
                room -= 1
                self._waiting.put(hook)
        return bool(hooks)

    def _work(self) -> None:
        while True:
            hook = self._waiting.get()
            try:
                self._settle(hook, self._attempt(hook))
            except StoreUnavailable as error:
                _log.warning("webhook's outcome not noted", id=hook.event, reason=str(error))
            finally:
                receiver = urlsplit(hook.url).netloc.lower()
                with self._lock:
                    self._under_way[receiver] -= 1
                    if not self._under_way[receiver]:
                        del self._under_way[receiver]
                self._wake.set()

    def _attempt(self, hook: Hook) -> Outcome:
        try:
            return self._sender.post(hook)
        except Exception as error:  # noqa: BLE001 - the thread must outlive any one event
            return Outcome(None, f"{type(error).__name__}: {error}"[:200])

    def _settle(self, hook: Hook, outcome: Outcome) -> None:
        attempts = hook.attempt + 1
        log = _log.bind(
            id=hook.event,
            receiver=urlsplit(hook.url).hostname,
            attempt=attempts,
            status=outcome.status,
        )
        self._board.count("webhooks", _word(outcome))
        if outcome.delivered:
            log.info("webhook delivered")
            self._board.hook_drop(hook)
            return
        delay = delay_s(outcome, attempts, jitter)
        if delay is None:
            log.warning("webhook given up", reason=outcome.reason)
            self._board.hook_drop(hook)
            return
        log.info("webhook failed", reason=outcome.reason, next_in_s=round(delay))
        self._board.hook_later(hook, attempts, delay)


def _word(outcome: Outcome) -> str:
    if outcome.delivered:
        return "delivered"
    return "unreachable" if outcome.status is None else "refused"
