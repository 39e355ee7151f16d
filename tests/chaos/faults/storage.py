"""Disks: full where an attempt writes, slow where Redis makes things durable."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from signal import SIGKILL

from tests.chaos.faults.fault import Fault, Site

FULL_S = 10.0
MET_S = 40.0
"""Until a try has met its full disk: what it makes is written when it has been denoised."""


def _attempts_full(site: Site) -> str:
    """No file of a gang's ranks may grow any more, as on a full disk (EFBIG for ENOSPC)."""
    worker = site.busy_worker()
    pids = [device.pid for device in worker.info.devices]
    job_id, _, fence = worker.gang_attempt.partition("/")
    with site.hit(worker, "disk full") as part:
        began = time.monotonic()
        _limit_files(pids, 0)
        # Until the try has met it, or has ended otherwise.
        site.until(lambda: site.stack.store.get(job_id).fence != fence, FULL_S)
        _limit_files(pids, None)
        site.pause(1.0, 1.0)  # the failed try is written down
    return f"{part.name} for {time.monotonic() - began:.1f} s"


def _disk_full(site: Site) -> str:
    """No byte is left where a worker's attempts write, for its ranks and for itself."""
    worker = site.busy_worker()
    job_id, _, fence = worker.gang_attempt.partition("/")
    with site.hit(worker, "disk full") as part:
        began = time.monotonic()
        with site.stack.small_disk.full(worker.info.pid):
            met = site.until(lambda: site.stack.store.get(job_id).fence != fence, MET_S)
            site.pause(0.0, 3.0)
        site.pause(1.0, 1.0)
    seconds = time.monotonic() - began
    return f"{part.name} for {seconds:.1f} s, {'' if met else 'NOT '}met by {job_id}"


def _limit_files(pids: list[int], size_bytes: int | None) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            soft = hard if size_bytes is None else size_bytes
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def _redis_killed_while_fsync_is_slow(site: Site) -> str:
    part = site.stack.parts["redis"]
    pid = part.pid
    with site.stack.slow_disk.slow():
        seconds = site.pause(1.0, 3.0)
        part.signal(SIGKILL)
    site.until(lambda: part.pid != pid)
    return f"after {seconds:.1f} s"


FAULTS = (
    Fault("disk full under an attempt", _attempts_full),
    Fault("disk of a worker full", _disk_full, lambda stack: stack.small_disk.missing),
    Fault(
        "Redis SIGKILL while fsync is slow",
        _redis_killed_while_fsync_is_slow,
        lambda stack: stack.slow_disk.missing,
    ),
)
