"""The beat of the jobs that this worker holds, and the worker's own sign of life.

A refused beat means that the job is not ours any more (cancelled, deleted, given to another): its
run is cancelled, and the gang killed if it does not stop in time. A store that does not answer means
nothing: the run goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from jobs.errors import StoreUnavailable
from jobs.record import Job, Progress, Resumed
from jobs.settings import Settings
from jobs.store import Hold, JobStore
from worker.intake import Intake
from worker.presence import Presence
from worker.supervisor import Supervisor, Work

log = structlog.get_logger()

PACE_S = 0.25
"""News of progress wait no longer than this for their beat."""


@dataclass
class Held:
    """A job that this worker holds under its fence."""

    job: Job
    lost: threading.Event = field(default_factory=threading.Event)
    """Set when a beat was refused."""
    lost_at: float = 0.0
    progress: Progress | None = None
    preview: bytes | None = None
    """A new picture of what is being made, to go with the next beat."""
    resumed: Resumed | None = None
    handing_back: threading.Event = field(default_factory=threading.Event)
    """Set when a job of higher priority is to have the gang."""
    work: Work | None = None
    """Set while the gang has it."""
    overdue: threading.Event = field(default_factory=threading.Event)
    """Set when the gang has computed it for longer than it may."""
    ending: bool = False
    """Its end is being written: from then on that answer counts, not the beat's."""


class Beat:
    """The thread that raises the beats."""

    def __init__(
        self,
        store: JobStore,
        presence: Presence,
        supervisor: Supervisor,
        settings: Settings,
        intake: Intake,
    ) -> None:
        self._store = store
        self._presence = presence
        self._intake = intake
        self._supervisor = supervisor
        self._settings = settings
        self._held: dict[tuple[str, str], Held] = {}
        """By job and fence: an old attempt may still be leaving when the job comes back."""
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, name="beat", daemon=True),
            threading.Thread(target=self._listen, name="cancels", daemon=True),
        ]

    def start(self) -> None:
        """Start beating, and listening for hints of cancelled jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop beating. Stopping twice is nothing."""
        self._stopping.set()
        self._news.set()

    @property
    def held(self) -> list[Held]:
        """The jobs that this worker holds now."""
        return list(self._held.values())

    def holds(self, job: Job) -> bool:
        """Whether this worker holds that attempt of the job."""
        return (job.id, job.fence) in self._held

    @contextmanager
    def hold(self, job: Job) -> Iterator[Held]:
        """Beat for `job` inside the block."""
        held = Held(job)
        self._held[job.id, job.fence] = held
        try:
            yield held
        finally:
            del self._held[job.id, job.fence]

    def note(self, held: Held, progress: Progress) -> None:
        """Where the job stands, for the next beat, which comes soon."""
        held.progress = progress
        self._news.set()

    def _listen(self) -> None:
        for job_id in self._store.cancels(self._stopping):
            for held in self.held:
                if held.job.id == job_id:
                    self._raise(held)  # at once: its answer tells whether it is true

    def _live(self) -> None:
        announced = 0.0
        while not self._stopping.is_set():
            for held in self.held:
                self._raise(held)
                self._limit(held)
            if time.monotonic() - announced >= self._settings.beat_s:
                announced = time.monotonic()
                self._presence.announce()
                presence = self._presence
                self._intake.keep(open_=presence.disk_usable and not presence.drained)
            self._stopping.wait(PACE_S)
            self._news.wait(max(0.0, self._settings.beat_s - PACE_S))
            self._news.clear()

    def _limit(self, held: Held) -> None:
        """Stop a run that has computed for longer than its job may; kill one that does not stop."""
        work, most_s = held.work, held.job.max_running_s
        if work is None or work.started_at is None or most_s is None:
            return
        over_s = time.monotonic() - work.started_at - most_s
        if over_s > 0 and not held.overdue.is_set():
            log.warning("it has run for too long", **of(held), max_running_s=most_s)
            held.overdue.set()
            self._supervisor.cancel(work)
        elif over_s > self._settings.cancel_grace_s:
            self._supervisor.kill(work)

    def _show(self, held: Held) -> None:
        preview, held.preview = held.preview, None
        if preview is None:
            return
        try:
            self._store.show_preview(held.job.id, held.job.fence, preview)
        except StoreUnavailable as error:
            log.warning("no preview", **of(held), error=str(error))

    def _raise(self, held: Held) -> None:
        if held.lost.is_set():
            if held.work and time.monotonic() - held.lost_at > self._settings.cancel_grace_s:
                log.warning("a cancelled run does not stop: killing the gang", **of(held))
                self._supervisor.kill(held.work)
            return
        try:
            hold = self._store.beat(held.job.id, held.job.fence, held.progress, held.resumed)
        except StoreUnavailable as error:
            log.warning("no beat", **of(held), error=str(error))
            return
        if hold is Hold.HAND_BACK and not held.handing_back.is_set():
            log.info("asked to make room", **of(held))
            held.handing_back.set()
            if held.work:
                self._supervisor.cancel(held.work, checkpoint=True)
        if hold is not Hold.LOST:
            self._show(held)
        elif not held.ending:
            log.info("the job is not ours any more", **of(held))
            held.lost_at = time.monotonic()
            held.lost.set()
            if held.work:
                self._supervisor.cancel(held.work)


def of(held: Held) -> dict[str, str]:
    """What a log line says of whose it is."""
    return {"job": held.job.id, "attempt": held.job.fence}
