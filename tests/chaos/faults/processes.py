"""Processes that are killed, told to stop, or stopped and continued."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

from tests.chaos.faults.fault import Fault, NothingToStrike, Site
from tests.chaos.stack import LEASE_S

HUNG_S = 100.0
"""The watchdog has long struck by then."""
LEAD_S = 5.0
"""`jobs.relay.leader.LEAD_S`."""


def _rank(site: Site, number: Signals) -> str:
    """A rank of a gang that computes."""
    worker = site.busy_worker()
    device = site.random.choice(worker.info.devices)
    with site.hit(worker, f"rank {number.name}") as part, suppress(ProcessLookupError):
        os.kill(device.pid, number)
    return f"{part.name} rank {device.rank}"


def _rank_stopped(site: Site) -> str:
    """A rank that hangs for a while: the others wait for it."""
    worker = site.busy_worker()
    device = site.random.choice(worker.info.devices)
    with site.hit(worker, "rank SIGSTOP") as part:
        try:
            os.kill(device.pid, SIGSTOP)
        except ProcessLookupError:
            raise NothingToStrike("the rank is gone") from None
        seconds = site.pause(0.5, 4.0)
        with suppress(ProcessLookupError):  # a watchdog may have been faster
            os.kill(device.pid, SIGCONT)
    return f"{part.name} rank {device.rank} for {seconds:.1f} s"


def _rank_stopped_for_good(site: Site) -> str:
    """A rank that hangs until somebody kills it: the worker's watchdog has to."""
    worker = site.busy_worker()
    device = site.random.choice(worker.info.devices)
    with site.hit(worker, "rank SIGSTOP for good") as part:
        with suppress(ProcessLookupError):
            os.kill(device.pid, SIGSTOP)
        killed = site.until(lambda: not Path(f"/proc/{device.pid}").exists(), HUNG_S)
        with suppress(ProcessLookupError):
            os.kill(device.pid, SIGCONT)
        time.sleep(1.0)  # the failed try is written down
    return f"{part.name} rank {device.rank}, {'killed' if killed else 'NOT killed'}"


def _worker(site: Site, number: Signals) -> str:
    worker = site.busy_worker()
    with site.hit(worker, f"worker {number.name}") as part:
        part.signal(number)
        # It hands back and leaves, or is gone: what it held ends until then.
        site.until(lambda: part.pid != worker.info.pid)
    return part.name


def _worker_stopped(site: Site, least_s: float, most_s: float) -> str:
    worker = site.busy_worker()
    with site.hit(worker, "worker SIGSTOP") as part:
        part.signal(SIGSTOP)
        seconds = site.pause(least_s, most_s)
        part.signal(SIGCONT)
        time.sleep(1.0)  # a beat, which tells it what became of its job
    return f"{part.name} for {seconds:.1f} s"


def _worker_killed_at_delivery(site: Site) -> str:
    """Stopped while idle, the message goes to its socket, and it dies with it."""
    worker = site.free_worker()
    with site.hit(worker, "SIGSTOP+SIGKILL at delivery") as part:
        part.signal(SIGSTOP)
        job_id = site.clients.submit("busy")
        site.until(lambda: site.stack.store.get(job_id).release > 0, 5.0)
        site.pause(0.0, 1.0)
        part.signal(SIGKILL)
        site.until(lambda: part.pid != worker.info.pid)
    return f"{part.name} with a message for {job_id}"


def _leader(site: Site, number: Signals) -> str:
    part = site.leader()
    pid = part.pid
    part.signal(number)
    site.until(lambda: part.pid != pid)
    return part.name


def _leader_stopped(site: Site) -> str:
    """For longer than its lead lasts: when it goes on, another leads."""
    part = site.leader()
    part.signal(SIGSTOP)
    seconds = site.pause(LEAD_S + 0.5, LEAD_S + 3.0)
    part.signal(SIGCONT)
    return f"{part.name} for {seconds:.1f} s"


def _leader_stopped_before_its_script(site: Site) -> str:
    """A worker falls silent; the leader has looked, and before it acts the worker beats again."""
    leader = site.leader()
    worker = site.busy_worker()
    link = site.stack.link(leader.name, "redis")
    with site.hit(worker, "worker SIGSTOP") as part:
        part.signal(SIGSTOP)
        time.sleep(LEASE_S - site.random.uniform(0.0, 0.9))
        link.after_answer(partial(leader.signal, SIGSTOP))
        time.sleep(1.5)
        part.signal(SIGCONT)
        # Long enough for a beat; sometimes so long that the other relay leads.
        seconds = site.pause(0.8, LEAD_S + 2.0)
        link.forget()
        leader.signal(SIGCONT)
        time.sleep(1.0)
    return f"{leader.name} for {seconds:.1f} s, {part.name} silent"


def _part(site: Site, name: str, number: Signals) -> str:
    part = site.stack.parts[name]
    pid = part.pid
    part.signal(number)
    site.until(lambda: part.pid != pid)
    return name


def _part_stopped(site: Site, name: str, least_s: float, most_s: float) -> str:
    part = site.stack.parts[name]
    part.signal(SIGSTOP)
    seconds = site.pause(least_s, most_s)
    part.signal(SIGCONT)
    return f"{name} for {seconds:.1f} s"


def _redis_away(site: Site) -> str:
    """For longer than the lease, under a job that runs all the while: nobody may take it away."""
    site.clients.submit("busy", steps=50, frames=33)
    site.busy_worker()
    return _part_stopped(site, "redis", LEASE_S + 1.0, LEASE_S + 3.0)


def _one_of(site: Site, *names: str) -> str:
    return site.random.choice(names)


FAULTS = (
    Fault("rank SIGKILL", lambda site: _rank(site, signal.SIGKILL)),
    Fault("rank SIGTERM", lambda site: _rank(site, SIGTERM)),
    Fault("rank SIGSTOP", _rank_stopped),
    Fault("rank SIGSTOP for good", _rank_stopped_for_good),
    Fault("worker SIGKILL", lambda site: _worker(site, SIGKILL)),
    Fault("worker SIGTERM", lambda site: _worker(site, SIGTERM)),
    Fault("worker SIGSTOP", lambda site: _worker_stopped(site, 0.5, LEASE_S - 2.0)),
    Fault(
        "worker SIGSTOP beyond its lease",
        lambda site: _worker_stopped(site, LEASE_S + 3.0, LEASE_S + 6.0),
    ),
    Fault("worker SIGSTOP+SIGKILL at delivery", _worker_killed_at_delivery),
    Fault("relay SIGKILL", lambda site: _leader(site, SIGKILL)),
    Fault("relay SIGTERM", lambda site: _leader(site, SIGTERM)),
    Fault("relay SIGSTOP beyond its lead", _leader_stopped),
    Fault("relay stopped between look and script", _leader_stopped_before_its_script),
    Fault("API SIGKILL", lambda site: _part(site, _one_of(site, "api-0", "api-1"), SIGKILL)),
    Fault("API SIGTERM", lambda site: _part(site, _one_of(site, "api-0", "api-1"), SIGTERM)),
    Fault(
        "API SIGSTOP",
        lambda site: _part_stopped(site, _one_of(site, "api-0", "api-1"), 1.0, 5.0),
    ),
    Fault("Redis SIGKILL", lambda site: _part(site, "redis", SIGKILL)),
    Fault("Redis SIGTERM", lambda site: _part(site, "redis", SIGTERM)),
    Fault("Redis SIGSTOP", lambda site: _part_stopped(site, "redis", 0.5, 4.0)),
    Fault("Redis SIGSTOP beyond the lease", _redis_away),
    Fault("S3 SIGKILL", lambda site: _part(site, "s3", SIGKILL)),
    Fault("S3 SIGTERM", lambda site: _part(site, "s3", SIGTERM)),
    Fault("S3 SIGSTOP", lambda site: _part_stopped(site, "s3", 1.0, 5.0)),
)
