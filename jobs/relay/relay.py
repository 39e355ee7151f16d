"""The relay's loop: renew the lead, requeue the silent, fail the late, release to the free, sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from jobs.artifacts import ArtifactStore
from jobs.errors import NotFound, StoreUnavailable
from jobs.record import new_nonce
from jobs.relay.board import Board, LeadLost, Release
from jobs.relay.leader import Leader
from jobs.relay.observer import Observer
from jobs.relay.preemption import Preemption
from jobs.relay.releaser import ReleaseWatch, free_gangs
from jobs.relay.sweeper import Sweeper
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.tracing import OFF, Tracing
from jobs.webhooks.courier import Courier
from jobs.webhooks.delivery import Sender
from jobs.workers import Workers

_log = structlog.get_logger()

GAP_SHARE = 1 / 3
"""Of the lease: what one gap between two looks may add to a silence, so that slow ticks do not undo it."""

Send = Callable[[str, str, int], None]
"""(job id, model, release number): tell the model's workers. Raises StoreUnavailable."""


class Relay:
    """One relay process; any number may run, one leads.

    Args:
        send: carries a release to the workers (`jobs.celery_app.send`).
        tick_s: the safety net: the longest sleep between two looks.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        workers: Workers,
        send: Send,
        artifacts: ArtifactStore,
        *,
        tick_s: float = 1.0,
        tracing: Tracing = OFF,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._store = store
        self._send = send
        self._tracing = tracing
        self._tick_s = tick_s
        self._clock = clock
        self.token = new_nonce()
        self._board = Board(store, self.token)
        self._leader = Leader(self._board, clock)
        self._observer = Observer(
            settings.lease_s, max_gap_s=max(2 * tick_s, settings.lease_s * GAP_SHARE)
        )
        self._watch = ReleaseWatch(settings.release_ttl_s)
        self._preemption = Preemption(store, self._board, settings.preempt_s)
        self._courier = Courier(
            self._board,
            Sender(settings),
            self._leads,
            hold_s=2 * settings.webhook_timeout_s + 10,
            tracing=tracing,
        )
        self._sweeper = Sweeper(self._board, workers, artifacts, self._leads)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then resign."""
        with self._beside(stop):
            leading = False
            while not stop.is_set():
                try:
                    led, leading = leading, self._leader.keep()
                    if leading != led:
                        _log.info("leads" if leading else "stands by")
                    if leading:
                        self.tick()
                        self._courier.kick()
                        self._board.wait(self._tick_s)
                        continue
                except (StoreUnavailable, LeadLost) as error:
                    _log.warning("relay starts over", reason=str(error) or "lead lost")
                    leading = False
                self.restart()
                stop.wait(self._tick_s)
        self._leader.resign()

    def tick(self) -> None:
        """One look at everything, with the lead in hand.

        Raises:
            StoreUnavailable: Redis or the broker does not answer, or refuses writes.
            LeadLost: another relay leads.
        """
        for silent in self._observer.look(self._board.running(), self._clock()):
            state = self._board.lose(silent)
            if state is not None:
                _log.warning(
                    "job's beat is silent",
                    job=silent.job_id,
                    attempt=silent.fence,
                    now=state.value,
                )
        for release in self._watch.look(self._board.released(), self._clock()):
            self._board.unrelease(release)
        for job_id in self._board.expire_overdue():
            _log.info("waited too long", job=job_id)
        released = self._board.released()
        workers = self._workers.live()
        for model, gangs in free_gangs(workers).items():
            released = self._board.release(model, gangs)
        for release in self._watch.unsent(released):
            self._send_out(release)
        self._preemption.look(workers)

    def restart(self) -> None:
        """Begin all observations anew."""
        self._observer.restart()
        self._watch.restart()

    def _send_out(self, release: Release) -> None:
        began_at = time.time()
        self._send(release.job_id, release.model, release.number)
        self._watch.sent(release)
        if self._tracing.on:
            self._trace(release, began_at)
        _log.debug("released", job=release.job_id, release=release.number)

    def _trace(self, release: Release, began_at: float) -> None:
        with suppress(NotFound):
            job = self._store.get(release.job_id)
            self._tracing.start(
                "release",
                parent=job.traceparent,
                at=began_at,
                kind="producer",
                attributes={"job.id": job.id, "job.release": release.number},
            ).end()

    def _leads(self) -> bool:
        return self._leader.leads

    @contextmanager
    def _beside(self, stop: threading.Event) -> Iterator[None]:
        """The slow work, in threads that die with the process should they hang."""
        threads = [
            threading.Thread(target=self._courier.run, args=(stop,), name="courier", daemon=True),
            threading.Thread(target=self._sweeper.run, args=(stop,), name="sweeper", daemon=True),
        ]
        for thread in threads:
            thread.start()
        yield
        self._courier.kick()
        for thread in threads:
            thread.join(timeout=2.0)
