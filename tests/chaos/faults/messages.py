"""Celery's messages: doubled, late, lost. They are hints, so nothing may come of it."""

from __future__ import annotations

from jobs.celery_app import make_celery, send
from tests.chaos.faults.fault import Fault, NothingToStrike, Site
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
    if not site.until(lambda: _completed(site)):
        raise NothingToStrike("no job has completed")
    ended = _completed(site)
    chosen = site.random.sample(ended, min(3, len(ended)))
    site.begin()
    with make_celery(site.stack.settings) as app:
        for job_id in chosen:
            send(app, job_id, MODEL, site.stack.store.get(job_id).release)
    return f"{len(chosen)} messages"


def _completed(site: Site) -> list[str]:
    told = dict(site.history.told)  # the clients go on meanwhile
    return sorted(job_id for job_id, statuses in told.items() if statuses[-1] == "completed")


def _lost(site: Site) -> str:
    """Popped for a worker that never gets it: its way is held, the message goes there, the way breaks."""
    links = [site.stack.link(part, "redis") for part in ("worker-0", "worker-1")]
    with site.history.hit("worker-0", "cut"), site.history.hit("worker-1", "cut"):
        site.free_worker()
        for link in links:
            link.hold()
        job_id = site.clients.submit("busy")
        site.until(lambda: site.stack.store.get(job_id).release > 0, 3.0)
        site.pause(0.1, 0.5)
        for link in links:
            link.cut()
            link.heal()
        site.pause(1.0, 1.0)  # they are heard again
    return f"of {job_id}"


FAULTS = (
    Fault("message doubled", _doubled),
    Fault("message late", _late),
    Fault("message lost", _lost),
)
