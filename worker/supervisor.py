"""The one thread that owns the gang: starts it, gives it runs, starts it anew when it died.

It lives as long as the process, because the ranks' parent-death signal follows the thread that made
them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from pipeline.gang.gang import Gang, GangDied, GangError, GangRefused
from pipeline.gang.protocol import Done, Failed, News, Run
from worker.presence import Presence
from worker.watchdog import Watchdog

log = structlog.get_logger()

BACKOFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_S = 60.0
"""A gang that was ready for this long starts over with the shortest back-off."""
LOOK_S = 0.5
"""How soon an idle gang's death is noticed."""


@dataclass
class Work:
    """One run on its way through the gang. `outcome` raises GangDied, or is cancelled unstarted."""

    run: Run
    on_news: Callable[[News], None]
    outcome: Future[Done | Failed] = field(default_factory=Future)
    started_at: float | None = None
    """When the gang got it, monotonic seconds."""


class Supervisor:
    """The gang's keeper. Its methods may be called from any thread."""

    def __init__(
        self,
        gang: Gang,
        presence: Presence,
        watchdog: Watchdog,
        *,
        start_s: float,
        stop_s: float,
        on_refused: Callable[[], None],
    ) -> None:
        """Nothing starts yet.

        Args:
            gang: not started.
            presence: is told what becomes of the gang, before anybody else is.
            watchdog: says when a gang that is silent counts as hung.
            start_s: how long the gang may take to be ready.
            stop_s: how long it may take to leave in order.
            on_refused: called when the gang can never start; `refusal` says why.
        """
        self.refusal = ""
        self._on_refused = on_refused
        self._gang = gang
        self._presence = presence
        self._watchdog = watchdog
        self._start_s = start_s
        self._stop_s = stop_s
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._failures = 0
        self._restarts = -1
        self._ready_at = 0.0
        self._loading = False
        self._thread = threading.Thread(target=self._live, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the thread, and it the gang."""
        self._thread.start()

    def submit(self, run: Run, on_news: Callable[[News], None]) -> Work:
        """Queue a run; `on_news` is called on the supervisor's thread."""
        work = Work(run, on_news)
        self._queue.put(work)
        return work

    def cancel(self, work: Work, *, checkpoint: bool = False) -> None:
        """Drop the work if it waits, stop it at the next step boundary if it runs.

        `checkpoint`: it shall leave one there.
        """
        if not work.outcome.cancel():
            self._gang.cancel(work.run.run_id, checkpoint=checkpoint)

    def kill(self, work: Work) -> None:
        """Kill the gang if it still runs this work."""
        if work.outcome.running():
            self._gang.kill()

    def stop(self) -> None:
        """End the gang, in order if it is idle. Stopping twice is nothing."""
        self._stopping.set()
        if self._loading:
            self._gang.kill()  # it hears nobody yet
        self._thread.join(self._stop_s)
        if self._thread.is_alive():
            self._gang.kill()
            self._thread.join(1.0)

    def _live(self) -> None:
        while not self._stopping.is_set():
            if not self._gang.alive and not self._bring_up():
                continue
            try:
                work = self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if work.outcome.set_running_or_notify_cancel():
                job, _, attempt = work.run.run_id.partition("/")
                with structlog.contextvars.bound_contextvars(job=job, attempt=attempt):
                    self._perform(work)
        self._gang.stop(self._stop_s)

    def _perform(self, work: Work) -> None:
        watch = self._watchdog.watch(work.run)
        work.started_at = time.monotonic()
        try:
            answer = self._gang.run(work.run, work.on_news, watch)
        except GangDied as error:
            self._presence.enter("starting")  # before the job's end makes this gang look free
            work.outcome.set_exception(error)
            return
        if not self._gang.alive:
            self._presence.enter("starting")
        work.outcome.set_result(answer)
        if isinstance(answer, Done):
            watch.done()

    def _bring_up(self) -> bool:
        """Start the gang once, after the back-off that is due."""
        if self._ready_at and time.monotonic() - self._ready_at > STEADY_S:
            self._failures = 0
        delay_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self._ready_at = 0.0
        if self._presence.state == "ready":
            log.warning("the gang is gone")
            self._presence.enter("starting")
        if self._stopping.wait(delay_s):
            return False
        self._loading = True
        try:
            ready = self._gang.start(self._start_s)
        except (GangError, OSError) as error:
            if not self._stopping.is_set():
                log.error("the gang cannot start", error=str(error), tries=self._failures)  # noqa: TRY400 - its words say it all
                self._presence.enter("unhealthy")
            if isinstance(error, GangRefused) and self._restarts < 0:  # it has never served
                self.refusal = str(error)
                self._stopping.set()
                self._on_refused()
            return False
        finally:
            self._loading = False
        self._restarts += 1
        self._ready_at = time.monotonic()
        self._watchdog.on_ready(ready)
        self._presence.ready(ready, restarts=self._restarts)
        log.info(
            "the gang is ready",
            model=ready.card.name,
            platform=ready.platform,
            degrees=ready.degrees,
            load_s=round(ready.load_s, 1),
            restarts=self._restarts,
        )
        return True
