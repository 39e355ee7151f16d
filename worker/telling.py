"""What Celery's monitors, Flower among them, are told of a task that ended without the job's end here.

Celery sends nothing for a task that raises Ignore, and would show it as started for ever.
"""

from __future__ import annotations

import contextlib
from typing import Any

from kombu.exceptions import OperationalError

from jobs.errors import NotFound, StoreUnavailable
from jobs.record import Job
from jobs.states import State
from jobs.store import JobStore


def tell(task: Any, store: JobStore, job_id: str) -> None:
    """Send the event that says how the job stands; best effort.

    A job that another worker runs needs none: that one tells its end.
    """
    try:
        job = store.get(job_id)
    except NotFound:
        job = None  # deleted, and so cancelled before
    except StoreUnavailable:
        return
    event = event_of(job)
    if event is not None:
        kind, fields = event
        with contextlib.suppress(OperationalError, OSError):
            task.send_event(kind, **fields)


def event_of(job: Job | None) -> tuple[str, dict[str, object]] | None:
    """Celery's event for the job's state, and its fields; None: it is told elsewhere."""
    if job is None or job.state is State.CANCELLED:
        return "task-revoked", {"terminated": True, "signum": "", "expired": False}
    if job.state is State.QUEUED:
        # After this one, and no other, a monitor lets the next try begin again.
        return "task-retried", {"exception": "waits for its next try", "traceback": ""}
    if job.state is State.FAILED:
        reason = job.error.message if job.error else ""
        return "task-failed", {"exception": reason, "traceback": ""}
    if job.state is State.COMPLETED:
        return "task-succeeded", {}
    return None
