"""The books are full while jobs are live and even when all have ended, and a drift in one is seen."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from jobs.record import Job, JobError
from jobs.relay.board import Board
from jobs.store import JobStore
from tests.chaos.books import BOOKS, uneven
from tests.jobs import making

ERROR = JobError(code="error", message="it broke")


@pytest.fixture
def store(redis_url: str) -> JobStore:
    return JobStore.connect(making.settings(redis_url, max_lost=2, max_failures=2))


@pytest.fixture
def board(store: JobStore) -> Board:
    leading = Board(store, token="me")
    assert leading.lead(600)
    return leading


def start(store: JobStore, board: Board, worker: str = "w1") -> Job:
    """The job that is next runs."""
    (release,) = board.release("tiny", 1)
    job = making.claim(store, release.job_id, release.number, worker)
    assert job is not None
    return job


def lose(store: JobStore, board: Board, job: Job) -> None:
    (running,) = board.running()
    board.lose(running)
    store.gang_free(job.worker, job.id, job.fence)


def test_every_book_is_kept_while_jobs_are_live(store: JobStore, board: Board) -> None:
    store.submit(making.job())
    long = start(store, board)
    for _ in range(2):
        urgent = making.job(priority=5, max_waiting_s=60, webhook_url="https://a.test/")
        store.submit(urgent)
    assert board.preempt(long)
    board.release("tiny", 1)
    store.cancel(urgent.id)  # of which a webhook tells
    store.submit(making.job(max_waiting_s=60))

    found = uneven(store)

    assert {book for book in BOOKS if any(fnmatch(key, book) for key in found)} == set(BOOKS)


def test_however_jobs_end_nothing_of_them_stays_in_the_books(store: JobStore, board: Board) -> None:
    jobs = [making.job(owner=owner, max_waiting_s=60) for owner in ("ada", "ada", "bob", "bob")]
    for job in jobs:
        store.submit(job)
    store.complete((job := start(store, board)).id, job.fence, [], making.usage())
    store.hand_back((job := start(store, board)).id, job.fence)
    for _ in range(2):
        lose(store, board, start(store, board))
        store.retry((job := start(store, board)).id, job.fence, ERROR)
    while store.redis.get("t:queued") != "0":
        job = start(store, board)
        store.cancel(job.id)
        assert uneven(store), "its gang is not free yet"
        store.gang_free(job.worker, job.id, job.fence)
    assert all(store.get(job.id).state.terminal for job in jobs)
    assert uneven(store) == {}

    store.submit(job := making.job())
    board.release("tiny", 1)
    store.cancel(job.id)
    assert uneven(store) == {}


@pytest.mark.parametrize(
    ("key", "drift"),
    [
        ("queued", ("INCRBY", "t:queued", 1)),
        ("queued", ("INCRBY", "t:queued", -1)),
        ("tally:ada", ("HINCRBY", "t:tally:ada", "running", 1)),
        ("queue:0:ada:tiny", ("ZADD", "t:queue:0:ada:tiny", 1, "video_1")),
        ("held:w1", ("SADD", "t:held:w1", "video_1/1-a")),
        ("gangs", ("HSET", "t:gangs", "w1", "video_1/1-a")),
    ],
)
def test_a_drift_is_named(
    store: JobStore, board: Board, key: str, drift: tuple[str | int, ...]
) -> None:
    store.submit(making.job())
    job = start(store, board)
    store.complete(job.id, job.fence, [], making.usage())

    store.redis.execute_command(*drift)  # type: ignore[no-untyped-call]

    assert list(uneven(store)) == [key]
