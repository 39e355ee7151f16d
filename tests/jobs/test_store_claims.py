"""Who may claim a job, and how long its gang is busy with it; on every kind of server."""

from __future__ import annotations

import pytest

from jobs.record import new_id
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import Workers
from tests.jobs import making


@pytest.fixture
def store(any_redis_url: str) -> JobStore:
    return JobStore.connect(making.settings(any_redis_url, max_queued=50))


def test_a_late_or_doubled_or_foreign_message_claims_nothing(store: JobStore, board: Board) -> None:
    job_id, number = making.released(store, board)
    assert store.unrelease(job_id, number)
    assert making.claim(store, job_id, number) is None, "it is back in the order"
    (release,) = board.release("tiny", 1)
    assert release.number == number + 1
    assert making.claim(store, job_id, number) is None, "the old number"
    assert making.claim(store, job_id, release.number) is not None
    assert making.claim(store, job_id, release.number, "w2") is None, "doubled"
    assert making.claim(store, new_id(), 1, "w2") is None, "deleted meanwhile"
    store.cancel(job_id)
    assert making.claim(store, job_id, release.number, "w2") is None
    assert not store.unrelease(job_id, release.number)


def test_a_busy_gang_claims_nothing_until_it_is_free(store: JobStore, board: Board) -> None:
    running = making.claimed(store, board, "w1")
    other, number = making.released(store, board)
    assert making.claim(store, other, number) is None
    assert board.released() == frozenset()
    (release,) = board.release("tiny", 1)
    store.gang_free("w1", running.id, running.fence)
    second = making.claim(store, other, release.number)
    assert second is not None
    attempts = {f"{job.id}/{job.fence}" for job in (running, second)}
    assert store.redis.smembers("t:held:w1") == attempts, "one is still stored"
    store.complete(running.id, running.fence, [], making.usage())
    attempt = f"{other}/{second.fence}"
    assert store.redis.hget("t:gangs", "w1") == attempt
    assert store.redis.smembers("t:held:w1") == {attempt}


@pytest.mark.parametrize("state", ["starting", "unhealthy", "draining", "silent", "unknown"])
def test_a_gang_that_is_not_ready_leaves_the_job_to_one_that_is(
    store: JobStore, board: Board, state: str
) -> None:
    """Its worker hears the message all the same: a job waited there for a gang to load (chaos found)."""
    workers = Workers(store)
    if state == "silent":  # its announcement has run out
        workers.announce(making.worker("w1"))
        store.redis.delete("t:worker:w1")
    elif state != "unknown":
        workers.announce(making.worker("w1", state=state))
    job_id, number = making.released(store, board)
    for _ in range(2):
        assert store.claim(job_id, number, "w1") is None
        assert board.released() == frozenset()
        assert making.queued_count(store) == 1
    (release,) = board.release("tiny", 1)
    assert (release.job_id, release.number) == (job_id, number + 1)
    job = making.claim(store, job_id, release.number, "w2")
    assert job is not None
    assert job.attempt == 1


def test_an_old_attempts_end_leaves_the_next_one_of_the_same_worker_alone(
    store: JobStore, board: Board
) -> None:
    old = making.claimed(store, board, "w1")
    store.gang_free("w1", old.id, old.fence)  # it stores, slowly
    (silent,) = board.running()
    assert board.lose(silent) is State.QUEUED
    (release,) = board.release("tiny", 1)
    new = making.claim(store, old.id, release.number)
    assert new is not None
    attempts = {f"{job.id}/{job.fence}" for job in (old, new)}
    assert store.redis.smembers("t:held:w1") == attempts
    assert not store.complete(old.id, old.fence, [], making.usage())
    store.gang_free("w1", old.id, old.fence)
    attempt = f"{new.id}/{new.fence}"
    assert store.redis.hget("t:gangs", "w1") == attempt
    assert store.redis.smembers("t:held:w1") == {attempt}


def test_a_cancelled_job_keeps_its_gang_until_it_stopped(store: JobStore, board: Board) -> None:
    job = making.claimed(store, board)
    cancelled = store.cancel(job.id, owner="ada")
    assert cancelled.state is State.CANCELLED
    assert store.cancel(job.id) == cancelled
    assert not store.beat(job.id, job.fence)
    assert store.redis.hget("t:gangs", "w1") == f"{job.id}/{job.fence}"
    store.gang_free("w1", job.id, job.fence)
    assert store.redis.hget("t:gangs", "w1") is None
    assert store.redis.exists("t:held:w1") == 0
