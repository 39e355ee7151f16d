"""Celery's messages: doubled, late, lost. They are hints, so nothing may come of it."""

from __future__ import annotations

from jobs.celery_app import make_celery, queue_name, send
from jobs.connection import translated
from tests.chaos.faults.fault import Fault, Site
from tests.chaos.stack import MODEL


def _doubled(site: Site) -> str:
    """The message of a job that runs already, twice more: to whoever takes it."""
    worker = site.busy_worker()
    job_id = worker.gang_attempt.partition("/")[0]
    job = site.stack.store.get(job_id)
    with make_celery(site.stack.settings) as app:
        for _ in range(2):
            send(app, job_id, MODEL, job.release)
            site.pause(0.0, 0.5)
    return f"{job_id} release {job.release}"


def _late(site: Site) -> str:
    """Messages of jobs that ended long ago."""
    ended = sorted(job for job, told in site.history.told.items() if told[-1] == "completed")
    chosen = site.random.sample(ended, min(3, len(ended)))
    with make_celery(site.stack.settings) as app:
        for job_id in chosen:
            send(app, job_id, MODEL, site.stack.store.get(job_id).release)
    return f"{len(chosen)} messages"


def _lost(site: Site) -> str:
    """Every message that waits in the broker's queue is gone, for as long as the block lasts."""
    queue = f"{site.stack.settings.redis_prefix}{queue_name(MODEL)}"
    job_id = site.clients.submit("busy")
    lost = 0

    def drop() -> bool:
        nonlocal lost
        with translated():
            lost += int(site.stack.store.redis.delete(queue))
        return lost >= 1

    site.until(drop, 3.0)
    return f"{lost} messages, after {job_id}"


FAULTS = (
    Fault("message doubled", _doubled),
    Fault("message late", _late),
    Fault("message lost", _lost),
)
