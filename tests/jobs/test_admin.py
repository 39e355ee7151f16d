"""What admins do over all owners. (Every order of calls: test_scripts.py.)"""

from __future__ import annotations

import pytest

from jobs.admin import Admin
from jobs.errors import Conflict, NotFound
from jobs.record import Job
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import Hold, JobStore
from jobs.workers import Workers
from tests.jobs import making


@pytest.fixture
def admin(store: JobStore) -> Admin:
    return Admin(store)


def claimed(store: JobStore, board: Board, owner: str = "ada") -> Job:
    """A job that w1 computes."""
    job = store.submit(making.job(owner=owner))
    (release,) = board.release("tiny", 1)
    found = making.claim(store, job.id, release.number)
    assert found is not None
    return found


def test_a_drained_worker_takes_no_more_until_that_is_undone(
    store: JobStore, board: Board, workers: Workers, admin: Admin
) -> None:
    assert not workers.announce(making.worker("w1"))
    job = store.submit(making.job())
    (release,) = board.release("tiny", 1)

    told = admin.drain("w1", hand_back=False)
    assert (told.state, told.drained) == ("draining", True)
    assert workers.announce(making.worker("w1")), "it is told"
    (live,) = workers.live()
    assert not live.free
    assert store.claim(job.id, release.number, "w1") is None
    assert store.get(job.id).state is State.QUEUED
    assert board.released() == frozenset(), "it waits in the order again"

    assert admin.undrain("w1").state == "ready"
    assert not workers.announce(making.worker("w1"))
    (release,) = board.release("tiny", 1)
    assert store.claim(job.id, release.number, "w1") is not None


def test_a_drain_lets_the_job_finish_or_hands_it_back(
    store: JobStore, board: Board, workers: Workers, admin: Admin
) -> None:
    workers.announce(making.worker("w1"))
    job = claimed(store, board)

    assert admin.drain("w1", hand_back=False).computes == job.id
    assert store.beat(job.id, job.fence)
    admin.drain("w1", hand_back=True)
    assert store.beat(job.id, job.fence) is Hold.HAND_BACK, "its worker learns it so"
    assert store.hand_back(job.id, job.fence)
    back = store.get(job.id)
    assert (back.state, back.failures, back.lost) == (State.QUEUED, 0, 0)
    assert admin.workers().data[0].computes is None


def test_a_drain_ends_with_its_worker(store: JobStore, workers: Workers, admin: Admin) -> None:
    workers.announce(making.worker("w1"))
    admin.drain("w1", hand_back=False)
    workers.withdraw("w1")
    assert not workers.announce(making.worker("w1"))
    with pytest.raises(NotFound, match="no live worker 'w2'"):
        admin.drain("w2", hand_back=True)


def test_a_drain_outlasts_a_pause_of_its_worker(
    store: JobStore, board: Board, workers: Workers, admin: Admin
) -> None:
    workers.announce(making.worker("w1"))
    admin.drain("w1", hand_back=False)
    store.redis.delete("t:worker:w1")  # as when it was paused for longer than its lease
    workers.forget("w1")
    assert workers.gone() == ()
    assert workers.announce(making.worker("w1")), "it is told again"
    job = store.submit(making.job())
    (release,) = board.release("tiny", 1)
    assert store.claim(job.id, release.number, "w1") is None


def test_drains_of_workers_that_died_go_with_the_next_start(
    store: JobStore, workers: Workers, admin: Admin
) -> None:
    for worker_id in ("w1", "w2"):
        workers.announce(making.worker(worker_id))
        admin.drain(worker_id, hand_back=False)
    store.redis.delete("t:worker:w1")
    workers.forget("w1")
    workers.withdraw_all()
    assert store.redis.exists("t:drains") == 0


def test_only_a_running_job_is_requeued(
    store: JobStore, board: Board, workers: Workers, admin: Admin
) -> None:
    workers.announce(making.worker("w1"))
    job = claimed(store, board)
    again = admin.requeue(job.id)
    assert (again.state, again.attempt, again.failures) == (State.QUEUED, 1, 0)
    assert not store.beat(job.id, job.fence), "its worker learns it so"
    (live,) = workers.live()
    assert live.gang_attempt, "the gang is not free before it has stopped"
    store.gang_free("w1", job.id, job.fence)
    assert admin.workers().data[0].computes is None
    for state in (State.QUEUED, State.CANCELLED):
        with pytest.raises(Conflict, match=f"does not run: it is {state}"):
            admin.requeue(job.id)
        store.cancel(job.id)
    with pytest.raises(NotFound):
        admin.requeue("video_none")


def test_the_queue_shows_every_owner(
    store: JobStore, board: Board, workers: Workers, admin: Admin
) -> None:
    workers.announce(making.worker("w1"))
    running = claimed(store, board)
    first = store.submit(making.job(owner="bob"))
    store.submit(making.job(owner="bob"))
    store.submit(making.job(owner="cy", priority=3))

    found = admin.queue()
    assert [(job.id, job.owner, job.worker) for job in found.running] == [(running.id, "ada", "w1")]
    assert [(each.owner, each.priority, each.jobs) for each in found.waiting] == [
        ("cy", 3, 1),
        ("bob", 0, 2),
    ]
    assert found.waiting[1].oldest == first.id
    assert found.waiting[1].oldest_at == pytest.approx(first.created_at)
