"""How a claimed job ends, or goes back to the queue; on every kind of server."""

from __future__ import annotations

import pytest

from jobs.errors import Conflict
from jobs.record import JobError, Progress
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import JobStore
from tests.jobs import making

ERROR = JobError(code="gang_died", message="rank 1 was killed")


@pytest.fixture
def store(any_redis_url: str) -> JobStore:
    return JobStore.connect(making.settings(any_redis_url, max_queued=50))


def test_claim_beat_complete(store: JobStore, board: Board) -> None:
    job = making.claimed(store, board)
    assert job.state is State.IN_PROGRESS
    assert (job.attempt, job.worker) == (1, "w1")
    assert job.fence.startswith("1-")
    assert job.started_at is not None
    assert making.queued_count(store) == 0
    assert making.sweeps(store) == {f"{job.id}/{job.fence}/"}

    progress = Progress(stage="denoising", step=3, steps=20)
    assert store.beat(job.id, job.fence)
    assert store.beat(job.id, job.fence, progress)
    seen = store.get(job.id)
    assert (seen.beat, seen.progress) == (2, progress)

    artifact, usage = making.artifact(job.id, job.fence), making.usage()
    assert store.complete(job.id, job.fence, [artifact], usage)
    done = store.get(job.id)
    assert done.state is State.COMPLETED
    assert (done.artifacts, done.usage) == ((artifact,), usage)
    assert done.completed_at is not None
    assert done.expires_at == pytest.approx(done.completed_at + store.settings.retention_s)
    assert making.sweeps(store) == {f"{job.id}/checkpoints/"}, (
        "in case that some were never pointed to"
    )
    assert not store.beat(job.id, job.fence)


def test_every_end_answers_twice_the_same_and_has_one_effect(store: JobStore, board: Board) -> None:
    done = making.claimed(store, board, "w1")
    for _ in range(2):
        assert store.complete(done.id, done.fence, [], making.usage())
    failed = making.claimed(store, board, "w1")
    for _ in range(2):
        assert store.fail(failed.id, failed.fence, ERROR)
    retried = making.claimed(store, board, "w1")
    for _ in range(2):
        assert store.retry(retried.id, retried.fence, ERROR) is State.QUEUED
    assert store.get(retried.id).failures == 1
    handed = making.claimed(store, board, "w2")
    for _ in range(2):
        assert store.hand_back(handed.id, handed.fence)
    assert store.get(handed.id).failures == 0
    assert making.queued_count(store) == 2


def test_an_end_under_an_old_fence_is_refused(store: JobStore, board: Board) -> None:
    old = making.claimed(store, board)
    store.hand_back(old.id, old.fence)
    (release,) = board.release("tiny", 1)
    new = making.claim(store, old.id, release.number, "w2")
    assert new is not None
    assert new.attempt == 2
    assert not store.beat(old.id, old.fence)
    assert not store.fail(old.id, old.fence, ERROR)
    assert store.retry(old.id, old.fence, ERROR) is None
    assert not store.complete(old.id, old.fence, [], making.usage())
    assert store.get(old.id) == new
    assert making.sweeps(store) == {f"{old.id}/{old.fence}/", f"{new.id}/{new.fence}/"}


def test_cancel_of_a_finished_job_is_a_conflict(store: JobStore, board: Board) -> None:
    job = making.claimed(store, board)
    store.fail(job.id, job.fence, ERROR)
    with pytest.raises(Conflict, match="failed already"):
        store.cancel(job.id)


def test_failures_are_capped_and_losses_apart(any_redis_url: str) -> None:
    store = JobStore.connect(making.settings(any_redis_url, max_failures=2, max_lost=2))
    board = Board(store, "me")
    board.lead(600)
    job = making.claimed(store, board)
    answers = []
    for end in ("lose", "retry", "hand_back", "retry"):
        if end == "lose":
            (running,) = board.running()
            answers.append(board.lose(running))
            store.gang_free("w1", job.id, job.fence)
        elif end == "retry":
            answers.append(store.retry(job.id, job.fence, ERROR))
        else:
            store.hand_back(job.id, job.fence)
        for release in board.release("tiny", 1):
            again = making.claim(store, job.id, release.number)
            assert again is not None
            job = again
    assert answers == [State.QUEUED, State.QUEUED, State.FAILED]
    last = store.get(job.id)
    assert (last.attempt, last.failures, last.lost, last.error) == (4, 2, 1, ERROR)


def test_lose_compares_the_beat_and_the_lead(any_redis_url: str) -> None:
    store = JobStore.connect(making.settings(any_redis_url, max_lost=1))
    board = Board(store, "me")
    board.lead(600)
    job = making.claimed(store, board)
    (before,) = board.running()
    store.beat(job.id, job.fence)
    assert board.lose(before) is None
    (now,) = board.running()
    assert board.lose(now) is State.FAILED
    error = store.get(job.id).error
    assert error is not None
    assert error.code == "worker_lost"


def test_expire_fails_a_queued_job_only(store: JobStore, board: Board) -> None:
    late = JobError(code="deadline", message="it waited too long")
    running = making.claimed(store, board, max_waiting_s=0)
    assert not store.expire(running.id, late)
    assert store.hand_back(running.id, running.fence)
    assert not store.expire(running.id, late), "it has started once"
    store.delete(running.id)
    job_id, number = making.released(store, board, max_waiting_s=0)
    assert store.expire(job_id, late)
    assert store.get(job_id).error == late
    assert making.claim(store, job_id, number, "w2") is None
    assert making.queued_count(store) == 0
