"""Ways between parts that are cut (refused) or held (nothing comes through), and healed."""

from __future__ import annotations

from tests.chaos.faults.fault import Fault, Site
from tests.chaos.proxy import Link
from tests.chaos.stack import LEASE_S

SLOW_S = 25.0


def _break(site: Site, link: Link, *, least_s: float, most_s: float) -> str:
    held = site.random.random() < 0.5
    (link.hold if held else link.cut)()
    seconds = site.pause(least_s, most_s)
    link.heal()
    return f"{'held' if held else 'cut'} for {seconds:.1f} s"


def _worker_from_redis(site: Site, least_s: float, most_s: float) -> str:
    worker = site.busy_worker()
    with site.hit(worker, "cut from Redis") as part:
        link = site.stack.link(part.name, "redis")
        done = _break(site, link, least_s=least_s, most_s=most_s)
        # It is heard again, and hears what became of its job.
        site.pause(1.5, 1.5)
    return f"{part.name} {done}"


def _all_from_redis(site: Site) -> str:
    """For longer than the lease, under a job that runs all the while: nobody may take it away.

    It neither begins nor ends for all at once: half the time the workers lose their way first, and the
    relay that led finds it again before them.
    """
    site.clients.submit("busy", steps=50, frames=33)
    leader = site.leader().name
    site.busy_worker()
    other = "relay-1" if leader == "relay-0" else "relay-0"
    parts = ["worker-0", "worker-1", "api", other, leader]
    if site.random.random() < 0.5:
        parts.reverse()
    links = [site.stack.link(part, "redis") for part in parts]
    held = site.random.random() < 0.5
    for link in links:
        (link.hold if held else link.cut)()
        site.pause(0.1, 0.6)
    seconds = site.pause(LEASE_S + 1.0, LEASE_S + 3.0)
    for link in reversed(links):
        link.heal()
        site.pause(0.1, 0.6)
    return f"{'held' if held else 'cut'} for {seconds:.1f} s, {parts[0]} first"


def _relay_from_redis(site: Site) -> str:
    leader = site.leader()
    link = site.stack.link(leader.name, "redis")
    return f"{leader.name} {_break(site, link, least_s=1.0, most_s=7.0)}"


def _api_from_redis(site: Site) -> str:
    return _break(site, site.stack.link("api", "redis"), least_s=0.5, most_s=4.0)


def _worker_from_s3(site: Site) -> str:
    worker = site.busy_worker()
    part = site.stack.part_of(worker)
    link = site.stack.link(part.name, "s3")
    return f"{part.name} {_break(site, link, least_s=1.0, most_s=5.0)}"


def _s3_trickles(site: Site) -> str:
    """Under a job that is stored meanwhile: slow is not broken, so its try goes on."""
    worker = site.busy_worker()
    job_id = worker.gang_attempt.partition("/")[0]
    link = site.stack.link(site.stack.part_of(worker).name, "s3")
    bytes_s = site.random.randrange(1000, 8000)
    link.slow(bytes_s)
    ended = site.until(lambda: site.stack.store.get(job_id).state.terminal, SLOW_S)
    link.heal()
    return f"{job_id} at {bytes_s} bytes/s, {'ended' if ended else 'under way'} meanwhile"


def _subscriptions(site: Site) -> str:
    """Celery's own, and the workers' ears for cancelled jobs."""
    site.busy_worker()
    return f"{site.stack.kill_subscriptions()} connections"


FAULTS = (
    Fault("worker cut from Redis", lambda site: _worker_from_redis(site, 0.5, LEASE_S - 2.5)),
    Fault(
        "worker cut from Redis beyond its lease",
        lambda site: _worker_from_redis(site, LEASE_S + 2.0, LEASE_S + 4.0),
    ),
    Fault("everything cut from Redis beyond the lease", _all_from_redis),
    Fault("relay cut from Redis", _relay_from_redis),
    Fault("API cut from Redis", _api_from_redis),
    Fault("worker cut from S3", _worker_from_s3),
    Fault("S3 slow for a worker", _s3_trickles),
    Fault("CLIENT KILL of pub/sub", _subscriptions),
)
