"""Sends due events from the outbox: many at a time, and never many to one receiver.

It runs beside the relay's loop in threads of its own, so that a slow receiver holds up no release; which
of them a receiver may have, so that it holds up no other receiver either, `shares` says.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

import structlog

from jobs.errors import StoreUnavailable
from jobs.relay.board import Board, Hook
from jobs.tracing import OFF, Tracing
from jobs.webhooks.delivery import Outcome, Sender, delay_s, jitter
from jobs.webhooks.shares import CROWDED_S, Later, Place, Shares, bounds

_log = structlog.get_logger()

_LOOK_S = 1.0
_BATCH = 32


class Courier:
    """The sending side of the outbox; only a leading relay's does anything.

    Args:
        leads: whether this relay leads now.
        hold_s: longer than any attempt; a courier that dies with an event delays it by this.
        threads: deliveries at once, which only wait; a thread is started when it is first needed.
        per_receiver: of these, how many to one receiver that answers promptly.
    """

    def __init__(
        self,
        board: Board,
        sender: Sender,
        leads: Callable[[], bool],
        *,
        hold_s: float,
        threads: int = 128,
        per_receiver: int = 2,
        tracing: Tracing = OFF,
    ) -> None:
        self._board = board
        self._sender = sender
        self._leads = leads
        self._hold_s = hold_s
        self._tracing = tracing
        self._threads = threads
        self._started = 0
        self._shares = Shares(bounds(threads, per_receiver))
        self._waiting: queue.SimpleQueue[tuple[Hook, Place]] = queue.SimpleQueue()
        self._wake = threading.Event()

    def kick(self) -> None:
        """There may be a new event: look now."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Send until `stop`. An attempt under way then dies with the process and is made again."""
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
        room = 2 * self._threads - self._shares.taken
        if room <= 0:
            return False
        hooks = self._board.due_hooks(_BATCH, self._hold_s)
        later: dict[str, float] = {}
        for hook in hooks:
            place = self._shares.take(hook) if room > 0 else Later(CROWDED_S)
            if isinstance(place, Later):
                later[hook.event] = place.seconds * (1 + jitter())
            else:
                room -= 1
                self._send(hook, place)
        self._board.hooks_later(later)
        return bool(hooks)

    def _send(self, hook: Hook, place: Place) -> None:
        self._waiting.put((hook, place))
        if self._started < min(self._shares.taken, self._threads):
            name = f"webhook-{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._started += 1

    def _work(self) -> None:
        while True:
            hook, place = self._waiting.get()
            start = time.monotonic()
            outcome = self._attempt(hook)
            took_s = time.monotonic() - start
            try:
                self._settle(hook, place, outcome, took_s)
            except StoreUnavailable as error:
                _log.warning(
                    "webhook's outcome not noted",
                    id=hook.event,
                    job=hook.job.id,
                    attempt=hook.job.fence,
                    reason=str(error),
                )
            finally:
                self._shares.give_back(place, took_s=took_s, rest_s=outcome.throttle_s)
                self._wake.set()

    def _attempt(self, hook: Hook) -> Outcome:
        try:
            return self._sender.post(hook)
        except Exception as error:  # noqa: BLE001 - the thread must outlive any one event
            return Outcome(None, f"{type(error).__name__}: {error}"[:200])

    def _settle(self, hook: Hook, place: Place, outcome: Outcome, took_s: float) -> None:
        attempts = hook.attempt + 1
        delay = None if outcome.delivered else delay_s(outcome, attempts, jitter)
        status = _status(outcome, delay)
        tried = {
            "at": round(time.time(), 3),
            "status": outcome.status,
            "error": outcome.reason or None,
            "duration_ms": round(1000 * took_s),
        }
        self._trace(hook, outcome, took_s)
        self._board.count("webhooks", _word(outcome))
        self._board.hook_tried(hook, tried, status, delay)
        _log.log(
            logging.INFO if status in ("delivered", "pending") else logging.WARNING,
            "webhook tried",
            id=hook.event,
            job=hook.job.id,
            attempt=hook.job.fence,
            receiver=place.receiver,
            tries=attempts,
            answer=outcome.status,
            reason=outcome.reason,
            outcome=status,
            next_in_s=None if delay is None else round(delay),
        )

    def _trace(self, hook: Hook, outcome: Outcome, took_s: float) -> None:
        now = time.time()
        attributes = {
            "job.id": hook.job.id,
            "job.attempt": hook.job.fence,
            "webhook.id": hook.event,
        }
        span = self._tracing.start(
            "webhook",
            parent=hook.job.traceparent,
            at=now - took_s,
            kind="client",
            attributes=attributes | {"http.response.status_code": outcome.status or 0},
        )
        span.end(at=now, error="" if outcome.delivered else outcome.reason or _word(outcome))


def _status(outcome: Outcome, delay: float | None) -> str:
    if outcome.delivered:
        return "delivered"
    if delay is not None:
        return "pending"
    return "disabled" if outcome.status == 410 else "failed"


def _word(outcome: Outcome) -> str:
    if outcome.delivered:
        return "delivered"
    return "unreachable" if outcome.status is None else "refused"
