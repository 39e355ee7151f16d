"""What clients ask for in the midst of it: higher priority, deadlines."""

from __future__ import annotations

from collections.abc import Iterable

from tests.chaos.faults.fault import Fault, NothingToStrike, Site

LONG_S = 90.0
"""Until two long jobs that came last have every gang."""


def _preempted(site: Site) -> str:
    """Every gang computes a long job when one of higher priority comes: one of them makes room."""
    long = {site.clients.submit("busy", steps=50, frames=33) for _ in range(2)}

    def busy() -> bool:
        computed = {worker.gang_attempt.partition("/")[0] for worker in site.stack.ready()}
        return bool(computed) and computed <= long

    if not site.until(busy, LONG_S):
        raise NothingToStrike("a gang computes something else")
    site.begin()
    fences = {job_id: site.stack.store.get(job_id).fence for job_id in long}
    urgent = site.clients.submit("light", steps=4, priority=1)
    site.until(lambda: site.stack.store.get(urgent).attempt)
    paused = [
        job_id
        for job_id, fence in fences.items()
        if fence and site.stack.store.get(job_id).fence != fence
    ]
    return f"{urgent} before {', '.join(paused) or 'none of them'}"


def _late(site: Site) -> str:
    """One job may not wait for long, another not compute for long, while every gang has work."""
    site.busy_worker()
    jobs = [
        site.clients.submit("busy", steps=50, frames=33, max_running_s=1),
        site.clients.submit("busy", max_waiting_s=1),
    ]
    site.until(lambda: all(site.stack.store.get(job_id).state.terminal for job_id in jobs))
    return ", ".join(_ends(site, jobs))


def _ends(site: Site, jobs: Iterable[str]) -> Iterable[str]:
    for job_id in jobs:
        job = site.stack.store.get(job_id)
        yield job.error.code if job.error else job.state.value


FAULTS = (
    Fault("a job makes room for a higher priority", _preempted),
    Fault("deadlines pass", _late),
)
