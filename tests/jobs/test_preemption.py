"""A long job makes room for one of higher priority, and only then."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobs.outlook import Look, Standing
from jobs.record import Job, Progress
from jobs.relay.board import Board, LeadLost
from jobs.relay.preemption import Preemption, choose
from jobs.states import State
from jobs.store import Hold, JobStore
from jobs.workers import Workers
from tests.jobs import making


def running(store: JobStore, board: Board, worker: str = "w1", **changes: Any) -> Job:
    """A job that a gang denoises: half of it done in 100 s."""
    store.submit(making.job(**changes))
    (release,) = board.release("tiny", 1)
    job = making.claim(store, release.job_id, release.number, worker)
    assert job is not None
    store.redis.hset(f"t:job:{job.id}", "started_at", time.time() - 100)
    store.beat(job.id, job.fence, Progress(stage="denoising", step=10, steps=20))
    return job


@pytest.fixture
def asked(store: JobStore, board: Board, workers: Workers) -> Any:
    """Which of these jobs the relay has asked to make room, after one look."""

    def look(*jobs: Job, longer_than_s: float = 60.0) -> list[Job]:
        for worker in {job.worker for job in jobs}:
            workers.announce(making.worker(worker))
        Preemption(store, board, longer_than_s).look(workers.live())
        return [job for job in jobs if store.beat(job.id, job.fence) is Hold.HAND_BACK]

    return look


def test_it_is_handed_back_without_a_failure_and_goes_on_behind_the_other(
    store: JobStore, board: Board, asked: Any
) -> None:
    long = running(store, board)
    assert asked(long) == [], "nobody waits"
    urgent = store.submit(making.job(owner="bob", priority=5))

    with capture_logs() as logs:
        assert asked(long) == [long]
        assert asked(long) == [long], "and again"
    assert [log["job"] for log in logs] == [long.id], "told once"
    assert store.redis.hgetall("t:preempting") == {"tiny": f"{long.id}/{long.fence}"}
    store.hand_back(long.id, long.fence)
    assert not store.redis.exists("t:preempting")

    (release,) = board.release("tiny", 1)
    assert release.job_id == urgent.id
    paused = store.get(long.id)
    assert (paused.state, paused.failures, paused.lost) == (State.QUEUED, 0, 0)
    assert store.redis.hget("t:counts", "preemptions tiny") == "1"
    assert making.claim(store, urgent.id, release.number) is not None
    (release,) = board.release("tiny", 1)
    again = making.claim(store, long.id, release.number, "w2")
    assert again is not None
    assert store.beat(again.id, again.fence) is Hold.HELD, "asked was the attempt before"


@pytest.mark.parametrize(
    "why", ["same priority", "short", "off", "free gang", "on its way", "drained"]
)
def test_who_need_not_make_room_is_not_asked(
    store: JobStore, board: Board, workers: Workers, asked: Any, why: str
) -> None:
    long = running(store, board, priority=1)
    store.submit(making.job(owner="bob", priority=1 if why == "same priority" else 5))
    if why == "free gang":
        workers.announce(making.worker("w2"))
    if why == "on its way":
        board.release("tiny", 1)
    if why == "drained":  # its gang would take no other job
        workers.announce(making.worker("w1"))
        store.scripts("drain", "w1", "finish")

    bound_s = {"short": 1000.0, "off": 0.0}.get(why, 60.0)
    assert asked(long, longer_than_s=bound_s) == []


def test_one_job_of_a_model_is_asked_at_a_time(store: JobStore, board: Board, asked: Any) -> None:
    jobs = [running(store, board, worker) for worker in ("w1", "w2")]
    for _ in range(2):
        store.submit(making.job(owner="bob", priority=5))

    (first,) = asked(*jobs)
    assert asked(*jobs) == [first]
    store.hand_back(first.id, first.fence)
    (release,) = board.release("tiny", 1)
    making.claim(store, release.job_id, release.number, first.worker)

    (second,) = [job for job in jobs if job != first]
    assert asked(second) == [second]


def test_an_owner_at_its_limit_makes_nobody_stop(store: JobStore, board: Board, asked: Any) -> None:
    long = running(store, board)
    store.redis.hset("t:key:bob", "max_running", 0)
    store.submit(making.job(owner="bob", priority=5))

    assert asked(long) == []


def test_only_the_leader_asks(store: JobStore, board: Board) -> None:
    long = running(store, board)
    store.submit(making.job(owner="bob", priority=5))

    with pytest.raises(LeadLost):
        Board(store, "another").preempt(long)


def test_the_lowest_priority_goes_first_then_the_longest_to_go() -> None:
    now = 1000.0

    def look(name: str, priority: int, step: int) -> Look:
        progress = Progress(stage="denoising", step=step, steps=20)
        job = making.job(
            id=name, priority=priority, state=State.IN_PROGRESS, started_at=0.0, progress=progress
        )
        return Look(job, Standing(queue_position=None, owners=0, whole_s=None))

    looks = [look("high", 3, 3), look("shorter", 1, 12), look("longer", 1, 8), look("new", 0, 0)]
    chosen = choose(looks, longer_than_s=10.0, now=now)
    assert chosen is not None
    assert chosen.id == "longer", "of the new one nothing is known"
    assert choose(looks, longer_than_s=1e6, now=now) is None
