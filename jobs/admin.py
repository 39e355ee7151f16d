"""What an admin does over all owners: drain workers, requeue jobs, see who waits and what runs."""

from __future__ import annotations

from typing import Literal, cast

from jobs.connection import translated
from jobs.errors import Conflict, NotFound
from jobs.record import Job, decode
from jobs.reports import (
    QueueReport,
    RunningReport,
    WaitingReport,
    WorkerReport,
    WorkersReport,
    running_report,
    worker_report,
)
from jobs.store import JobStore
from jobs.workers import Workers


class Admin:
    """The acts. Every method raises `StoreUnavailable` when Redis does not answer."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def drain(self, worker_id: str, *, hand_back: bool) -> WorkerReport:
        """Let the worker take no more jobs, until `undrain` or its end.

        Args:
            worker_id: a live worker's.
            hand_back: its worker stops the job that its gang computes, leaves a checkpoint and hands
                it back; else it is finished first.

        Raises:
            NotFound: no such worker lives.
        """
        return self._drain(worker_id, "hand_back" if hand_back else "finish")

    def undrain(self, worker_id: str) -> WorkerReport:
        """Let the worker take jobs again.

        Raises:
            NotFound: no such worker lives.
        """
        return self._drain(worker_id, "undo")

    def requeue(self, job_id: str) -> Job:
        """Take a running job from its worker at once and queue it again; counts as no failure.

        Also where the worker does not answer. What it did since its last checkpoint is lost.

        Raises:
            NotFound: no such job.
            Conflict: it does not run.
        """
        job = self._store.get(job_id)
        if not job.fence or self._store.scripts("requeue", job_id, job.fence) is None:
            raise Conflict(f"job {job_id} does not run: it is {job.state}")
        return self._store.get(job_id)

    def workers(self) -> WorkersReport:
        """Every live worker, the oldest first."""
        live = sorted(Workers(self._store).live(), key=lambda worker: worker.info.started_at)
        return WorkersReport(data=[worker_report(worker) for worker in live])

    def queue(self) -> QueueReport:
        """Who waits and what runs."""
        return QueueReport(waiting=self._waiting(), running=self._running())

    def _waiting(self) -> list[WaitingReport]:
        names = WaitingReport.model_fields
        return [
            WaitingReport.model_validate(dict(zip(names, row, strict=True)))
            for row in self._store.scripts("waiting")
        ]

    def _running(self) -> list[RunningReport]:
        """The longest first."""
        key = self._store.key
        with translated():
            ids = cast("list[str]", self._store.redis.hkeys(key("running")))
            pipe = self._store.redis.pipeline()
            for job_id in ids:
                pipe.hgetall(key("job", job_id))
            records = pipe.execute()
        jobs = (running_report(decode(record)) for record in records if record)
        return sorted(jobs, key=lambda job: job.started_at)

    def _drain(self, worker_id: str, how: Literal["finish", "hand_back", "undo"]) -> WorkerReport:
        if self._store.scripts("drain", worker_id, how) is not None:
            for worker in self.workers().data:
                if worker.id == worker_id:
                    return worker
        raise NotFound(f"no live worker {worker_id!r}")
