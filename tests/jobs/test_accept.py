"""Submitting within limits: idempotency keys, the owner's queue, its day, what it may run at once."""

from __future__ import annotations

import pytest

from jobs.errors import KeyReused, OverBudget, QueueFull
from jobs.keys import Keys, Rights
from jobs.outlook import eta_s
from jobs.record import JobError, Progress
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import JobStore
from jobs.submission import Once, Quota
from jobs.workers import Workers
from tests.jobs import making


@pytest.fixture
def store(any_redis_url: str) -> JobStore:
    return JobStore.connect(making.settings(any_redis_url))


def run(store: JobStore, board: Board, job_id: str, *, device_s: float = 2.0) -> None:
    number = next(r.number for r in board.release("tiny", 1) if r.job_id == job_id)
    job = making.claim(store, job_id, number)
    assert job is not None
    assert store.complete(job_id, job.fence, (), making.usage(device_s))
    store.gang_free("w1", job_id, job.fence)


def test_one_key_and_body_is_one_job_another_body_is_refused(store: JobStore) -> None:
    once = Once("k", "body")
    first = store.accept(making.job(), once=once).job
    assert store.accept(making.job(), once=once).job.id == first.id
    assert store.queued() == 1
    with pytest.raises(KeyReused):
        store.accept(making.job(), once=Once("k", "other"))
    other = store.accept(making.job(owner="bob"), once=Once("k", "other")).job
    assert other.id != first.id, "keys are an owner's own"
    store.delete(first.id)
    with pytest.raises(KeyReused, match="deleted"):
        store.accept(making.job(), once=once)


def test_a_full_queue_still_answers_what_was_accepted(store: JobStore) -> None:
    quota = Quota(max_queued=1)
    once = Once("k", "body")
    first = store.accept(making.job(), once=once, quota=quota).job
    with pytest.raises(QueueFull, match="1 of your jobs"):
        store.accept(making.job(), quota=quota)
    assert store.accept(making.job(), once=once, quota=quota).job.id == first.id
    store.accept(making.job(owner="bob"), quota=quota)
    store.cancel(first.id)
    store.accept(making.job(), quota=quota)


def test_a_day_is_what_ended_and_what_is_expected(store: JobStore, board: Board) -> None:
    quota = Quota(daily_device_s=5.0)
    run(store, board, store.accept(making.job(), quota=quota).job.id, device_s=2.0)
    second = store.accept(making.job(), quota=quota).job  # expected to take 2 s more
    with pytest.raises(OverBudget) as refused:
        store.accept(making.job(), quota=quota)
    assert 0 < (refused.value.retry_after_s or 0) <= 86400
    store.cancel(second.id)
    third = store.accept(making.job(), quota=quota).job
    run(store, board, third.id, device_s=3.5)
    with pytest.raises(OverBudget):
        store.accept(making.job(), quota=quota)
    store.accept(making.job(owner="bob"), quota=quota)


def test_an_owner_at_its_limit_waits_and_others_go_on(store: JobStore, board: Board) -> None:
    key, _ = Keys(store).create("ann", Rights(max_running=1))
    mine = [store.submit(making.job(owner=key.id)).id for _ in range(3)]
    others = [store.submit(making.job(owner="bob")).id for _ in range(2)]
    released = {release.job_id for release in board.release("tiny", 4)}
    assert released == {mine[0], *others}
    number = next(r.number for r in board.released() if r.job_id == mine[0])
    job = making.claim(store, mine[0], number)
    assert job is not None
    assert mine[1] not in {release.job_id for release in board.release("tiny", 4)}
    assert store.fail(job.id, job.fence, JobError(code="error", message="x"))
    assert mine[1] in {release.job_id for release in board.release("tiny", 4)}


def test_a_look_tells_place_and_time(store: JobStore, board: Board, workers: Workers) -> None:
    looks = [store.accept(making.job()) for _ in range(3)]
    assert [look.standing.queue_position for look in looks] == [1, 2, 3]
    assert eta_s(looks[0], gangs=1, now=0.0) is None, "nothing has finished yet"
    first = looks[0].job
    run(store, board, first.id)
    ended = store.look(first.id, owner="ada")
    assert ended.job.state is State.COMPLETED
    assert ended.standing.queue_position is None
    assert eta_s(ended, gangs=1, now=0.0) is None
    store.redis.set(store.key("costs", "tiny"), "[[100, 50, 50]]")
    waits = store.submit(making.job())
    look = store.look(waits.id)
    whole_s = look.standing.whole_s
    assert whole_s is not None
    assert whole_s > 0
    assert look.standing.queue_position == 3
    half_of_what_runs_and_two_before = 2.5
    for gangs in (1, 5):
        expected_s = whole_s * (1 + half_of_what_runs_and_two_before / gangs)
        assert eta_s(look, gangs=gangs, now=0.0) == pytest.approx(expected_s)


def test_a_denoising_job_is_measured_by_its_own_pace(store: JobStore, board: Board) -> None:
    job = store.submit(making.job())
    store.redis.set(store.key("costs", "tiny"), "[[100, 1e8, 1e8]]")
    (release,) = board.release("tiny", 1)
    claimed = making.claim(store, job.id, release.number)
    assert claimed is not None
    assert claimed.started_at is not None
    now = claimed.started_at + 10
    assert (eta_s(store.look(job.id), gangs=1, now=now) or 0) > 1000, "nothing is measured yet"
    halfway = Progress(stage="denoising", step=10, steps=20)
    assert store.beat(job.id, claimed.fence, halfway)
    assert eta_s(store.look(job.id), gangs=1, now=now) == pytest.approx(10, rel=0.3)


def test_a_client_may_say_how_long_a_job_is_kept(store: JobStore, board: Board) -> None:
    short = store.submit(making.job(retention_s=60))
    run(store, board, short.id)
    ended = store.get(short.id)
    assert ended.expires_at is not None
    assert ended.completed_at is not None
    assert ended.expires_at - ended.completed_at == pytest.approx(60)


def test_nothing_is_counted_that_is_over(store: JobStore, board: Board) -> None:
    run(store, board, store.submit(making.job()).id)
    store.cancel(store.submit(making.job()).id)
    store.delete(store.submit(making.job()).id)
    assert store.redis.hgetall(store.key("tally", "ada")) == {}
