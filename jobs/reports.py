"""What admins are shown, by API and command line alike."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.record import Job
from jobs.workers import LiveWorker


class Report(BaseModel):
    """Base of all; times are unix seconds."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class WorkerReport(Report):
    """A live worker and what it holds."""

    id: str
    host: str
    pid: int
    model: str
    state: Literal["starting", "ready", "unhealthy", "draining"]
    drained: bool
    """Told to take no more jobs, until undone or its end."""
    computes: str | None
    """The job on its gang."""
    stores: list[str]
    """Jobs whose files it stores."""
    devices: int
    restarts: int
    """Of its gang."""
    started_at: float


class WorkersReport(Report):
    """Every live worker."""

    object: Literal["list"] = "list"
    data: list[WorkerReport]


class WaitingReport(Report):
    """One owner's waiting jobs of one model and priority."""

    model: str
    priority: int
    owner: str
    jobs: int
    oldest: str
    """The one of them that is next."""
    oldest_at: float


class RunningReport(Report):
    """A job on a worker."""

    id: str
    owner: str
    model: str
    priority: int
    worker: str
    attempt: int
    stage: str | None
    step: int | None
    steps: int | None
    started_at: float


class QueueReport(Report):
    """Who waits, in the order of the models' priorities and then as owners are due; and what runs."""

    object: Literal["queue"] = "queue"
    waiting: list[WaitingReport]
    running: list[RunningReport]


class QuotaReport(Report):
    """What an owner may have, None being no limit, and what it has."""

    owner: str
    """Its key's id."""
    name: str
    max_running: int | None
    max_queued: int | None
    daily_device_s: float | None
    running: int
    queued: int
    device_s_today: float
    """Device-seconds that ended on this UTC day."""
    device_s_expected: float
    """Estimated for its live jobs."""


class QuotasReport(Report):
    """Every owner whose key is valid."""

    object: Literal["list"] = "list"
    data: list[QuotaReport]


def worker_report(worker: LiveWorker) -> WorkerReport:
    """The worker for an admin."""
    info = worker.info
    computes = worker.gang_attempt.partition("/")[0]
    return WorkerReport(
        id=info.id,
        host=info.host,
        pid=info.pid,
        model=info.model,
        state=info.state,
        drained=worker.drained,
        computes=computes or None,
        stores=sorted(
            each.partition("/")[0] for each in worker.attempts if each != worker.gang_attempt
        ),
        devices=len(info.devices),
        restarts=info.restarts,
        started_at=info.started_at,
    )


def running_report(job: Job) -> RunningReport:
    """The running job for an admin."""
    at = job.progress
    return RunningReport(
        id=job.id,
        owner=job.owner,
        model=job.model,
        priority=job.priority,
        worker=job.worker,
        attempt=job.attempt,
        stage=at and at.stage,
        step=at and at.step,
        steps=at and at.steps,
        started_at=job.started_at or job.created_at,
    )
