"""Which running job makes room when one of higher priority waits and no gang is free."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import structlog

from jobs.errors import NotFound
from jobs.outlook import Look, eta_s
from jobs.record import Job
from jobs.relay.board import Board
from jobs.relay.releaser import free_gangs
from jobs.store import JobStore
from jobs.workers import LiveWorker

_log = structlog.get_logger()


class Preemption:
    """Asks one job of a model after the other to be handed back."""

    def __init__(self, store: JobStore, board: Board, longer_than_s: float) -> None:
        """`longer_than_s`: a job with less to go is let finish; 0: no job is ever asked."""
        self._store = store
        self._board = board
        self._longer_than_s = longer_than_s

    def look(self, workers: Iterable[LiveWorker]) -> None:
        """Ask where that is called for.

        Raises:
            StoreUnavailable: Redis does not answer.
            LeadLost: another relay leads.
        """
        if not self._longer_than_s:
            return
        workers = tuple(workers)
        free = free_gangs(workers)
        for model in {worker.info.model for worker in workers} - free.keys():
            if not self._board.highest_waiting(model):
                continue  # nobody waits above the lowest priority, which every job has at least
            busy = [w for w in workers if w.info.model == model and w.info.state == "ready"]
            looks = [look for w in busy if (look := self._running(w.gang_attempt))]
            job = choose(looks, longer_than_s=self._longer_than_s, now=time.time())
            if job is not None and self._board.preempt(job):
                _log.info("makes room for a higher priority", job=job.id, attempt=job.fence)

    def _running(self, attempt: str) -> Look | None:
        job_id, _, fence = attempt.partition("/")
        try:
            look = self._store.look(job_id)
        except NotFound:
            return None
        return look if look.job.fence == fence else None


def choose(looks: Sequence[Look], *, longer_than_s: float, now: float) -> Job | None:
    """Of the lowest priority the job with most to go, if that is longer than `longer_than_s`.

    One of which nothing is known is let run.
    """
    left_s = {look.job.id: eta_s(look, gangs=1, now=now) or 0.0 for look in looks}
    long = [look.job for look in looks if left_s[look.job.id] > longer_than_s]
    return min(long, key=lambda job: (job.priority, -left_s[job.id]), default=None)
