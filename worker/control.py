"""Celery's remote control, as Flower's buttons use it: Revoke and Terminate cancel the job.

Celery's own revoke notes the id in each worker, which then drops every later message of that id unseen:
a job that is tried again would never run. Nothing is noted here; the record alone says what is cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
from celery.worker.control import control_command

from jobs.errors import RushesError
from jobs.store import JobStore

log = structlog.get_logger()


def take_over(store: JobStore) -> None:
    """Put our commands in the place of Celery's in this process, before its consumer starts."""

    def cancel(_: object, task_id: str | Sequence[str], **_more: object) -> dict[str, str]:
        return cancel_all(store, [task_id] if isinstance(task_id, str) else task_id)

    control_command(name="revoke", variadic="task_id")(cancel)
    control_command(name="terminate", args=[("signal", str)], variadic="task_id")(cancel)


def cancel_all(store: JobStore, job_ids: Iterable[str]) -> dict[str, str]:
    """Cancel these jobs, whoever's; the answer is in Celery's form."""
    refused = []
    for job_id in job_ids:
        try:
            store.cancel(job_id)
        except RushesError as error:
            refused.append(str(error))
        else:
            log.info("cancelled by remote control", job=job_id)
    return {"error": "; ".join(refused)} if refused else {"ok": "cancelled"}
