"""The Celery task: claim -> run -> store -> finish.

The task ends with the job's terminal state and no sooner, so that Flower tells the truth: a refused
claim, and a try that leaves the job queued, raise Celery's Ignore.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from celery import Celery
from celery.exceptions import Ignore

from jobs.artifacts import ArtifactStore
from jobs.celery_app import TASK
from jobs.errors import NotFound, StoreUnavailable
from jobs.record import Job, JobError
from jobs.states import State
from jobs.store import JobStore
from jobs.tracing import OFF, Tracing
from worker.attempt import Attempt, persist
from worker.attempts import Attempts
from worker.beat import Beat
from worker.checkpoints import Pace
from worker.disk import Disk
from worker.endings import HandedBack, Lost, TryFailed
from worker.presence import Presence
from worker.supervisor import Supervisor
from worker.telling import tell
from worker.traces import Claimed, traced

log = structlog.get_logger()


class JobFailed(Exception):
    """The job has ended as failed; the record says why."""


@dataclass(frozen=True)
class Worker:
    """The parts that a task works with."""

    store: JobStore
    artifacts: ArtifactStore
    presence: Presence
    supervisor: Supervisor
    beat: Beat
    attempts: Attempts
    disk: Disk
    devices: int
    """The gang's."""
    store_retry_s: float
    """How long a job waits for an artifact store that is away."""
    pace: Pace
    """How often runs leave checkpoints."""
    preview_s: float
    """How often those who watch a job see what is being made; 0: never."""
    tracing: Tracing = OFF
    draining: threading.Event = field(default_factory=threading.Event)

    def perform(self, job_id: str, release: int) -> None:
        """Try a released job once.

        Raises:
            Ignore: the job has not ended, or not here.
            JobFailed: it has, as failed.
        """
        with structlog.contextvars.bound_contextvars(job=job_id, release=release):
            called_at = time.time()
            job = self._claim(job_id, release)
            claimed = Claimed(job, called_at, time.time())
            with (
                structlog.contextvars.bound_contextvars(attempt=job.fence),
                self.beat.hold(job) as held,
            ):
                log.info("claimed", model=job.model, size=job.request.size)
                attempt = Attempt(
                    held,
                    worker_id=self.presence.id,
                    store=self.store,
                    artifacts=self.artifacts,
                    beat=self.beat,
                    supervisor=self.supervisor,
                    draining=self.draining,
                    store_retry_s=self.store_retry_s,
                    pace=self.pace,
                    preview_s=self.preview_s,
                )
                with traced(self.tracing, claimed, attempt.timeline):
                    self._try(attempt, job)

    def _try(self, attempt: Attempt, job: Job) -> None:
        try:
            with self.attempts.directory(job) as directory:
                attempt.transfers.fetch(directory)
                done = attempt.run(directory)
                artifacts = attempt.transfers.store(done, directory)
            attempt.complete(done, artifacts, devices=self.devices)
        except Lost:
            attempt.let_go()
            raise Ignore("the job is not ours any more") from None
        except HandedBack:
            attempt.hand_back()
            raise Ignore("handed back") from None
        except TryFailed as error:
            ended = error
        except Exception as error:
            log.exception("the worker failed")
            # Its text is for the log: it may name paths of this machine.
            reason = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
            failure = JobError(code="worker_error", message=f"the worker failed: {reason}")
            ended = TryFailed(failure, again=True)
        else:
            return
        # Asked only now that the job's own files are gone: one that fills a sound disk has failed.
        if ended.again and self.disk.fails():
            log.warning("not the job's fault", code=ended.error.code, message=ended.error.message)
            attempt.hand_back()
            raise Ignore("handed back: this worker's disk fails")
        if attempt.end(ended) is State.FAILED:
            raise JobFailed(str(ended))
        raise Ignore("to be tried again")

    def _claim(self, job_id: str, release: int) -> Job:
        """The job, now ours.

        Raises:
            Ignore: it is not.
        """
        if self.draining.is_set():
            with contextlib.suppress(StoreUnavailable):
                self.store.unrelease(job_id, release)
            raise Ignore("this worker is leaving")
        try:
            job = self.store.claim(job_id, release, self.presence.id)
        except StoreUnavailable:
            job = self._claimed_unheard(job_id)
        if job is None:
            log.info("claim refused")
            raise Ignore("claim refused")
        return job

    def _claimed_unheard(self, job_id: str) -> Job | None:
        """The claim may have come through and only its answer been lost: the record knows."""
        try:
            job = persist(lambda: self.store.get(job_id))
        except NotFound:
            return None
        ours = job.state is State.IN_PROGRESS and job.worker == self.presence.id
        return job if ours and not self.beat.holds(job) else None


def register(app: Celery, worker: Worker) -> None:
    """Give the app the task, bound to this worker's parts."""

    @app.task(name=TASK, bind=True, throws=(JobFailed,))  # type: ignore[untyped-decorator]
    def generate(task: Any, job_id: str, release: int) -> None:
        try:
            worker.perform(job_id, release)
        except Ignore:
            tell(task, worker.store, job_id)
            raise
