"""The store's contract, on every kind of server that it is used with."""

from __future__ import annotations

import threading
import time

import pytest

from jobs.errors import Conflict, NotFound, QueueFull
from jobs.record import Job, JobError, Progress, new_id
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import Workers
from tests.fixtures.waiting import wait_for
from tests.jobs import making

ERROR = JobError(code="gang_died", message="rank 1 was killed")


@pytest.fixture
def store(any_redis_url: str) -> JobStore:
    return JobStore.connect(making.settings(any_redis_url, max_queued=50))


def released(store: JobStore, board: Board, **changes: object) -> tuple[str, int]:
    job = store.submit(making.job(**changes))  # type: ignore[arg-type]
    (release,) = [r for r in board.release("tiny", 99) if r.job_id == job.id]
    return job.id, release.number


def claimed(store: JobStore, board: Board, worker: str = "w1", **changes: object) -> Job:
    job_id, number = released(store, board, **changes)
    job = making.claim(store, job_id, number, worker)
    assert job is not None
    return job


def queued_count(store: JobStore) -> int:
    return int(store.redis.get("t:queued") or 0)


def sweeps(store: JobStore) -> set[str]:
    return set(store.redis.zrange("t:sweep", 0, -1))  # type: ignore[arg-type]


def test_submit_stores_the_record_and_again_gives_the_same(store: JobStore) -> None:
    job = making.job(webhook_url="https://example.com/hook")
    assert store.submit(job) == job
    assert store.submit(job) == job
    assert store.get(job.id, owner="ada") == job
    assert queued_count(store) == 1


def test_submit_is_bounded_and_a_repeated_one_is_not(any_redis_url: str) -> None:
    store = JobStore.connect(making.settings(any_redis_url, max_queued=2))
    first = store.submit(making.job())
    store.submit(making.job())
    with pytest.raises(QueueFull, match="2 jobs wait"):
        store.submit(making.job())
    assert store.submit(first) == first
    store.cancel(first.id)
    store.submit(making.job())


def test_a_job_is_seen_by_its_owner_only(store: JobStore) -> None:
    job = store.submit(making.job(owner="ada"))
    for act in (store.get, store.cancel, store.delete):
        with pytest.raises(NotFound):
            act(job.id, owner="bob")
        with pytest.raises(NotFound):
            act(new_id())
    assert store.get(job.id).state is State.QUEUED


def test_list_pages_by_creation_both_ways(store: JobStore) -> None:
    ids = [store.submit(making.job(created_at=1000.0 + n)).id for n in range(5)]
    store.submit(making.job(owner="bob"))
    first = store.list("ada", limit=2)
    assert [job.id for job in first.jobs] == ids[4:2:-1]
    assert first.has_more
    second = store.list("ada", limit=3, after=first.jobs[-1].id)
    assert [job.id for job in second.jobs] == ids[2::-1]
    assert not second.has_more
    assert [job.id for job in store.list("ada", order="asc", after=ids[2]).jobs] == ids[3:]
    assert store.list("nobody").jobs == ()


def test_list_goes_on_behind_a_deleted_job(store: JobStore) -> None:
    ids = []
    for _ in range(3):
        ids.append(store.submit(making.job()).id)
        time.sleep(0.002)  # ids carry milliseconds
    store.delete(ids[1])
    assert [job.id for job in store.list("ada", after=ids[1]).jobs] == [ids[0]]
    assert [job.id for job in store.list("ada", after=ids[1], order="asc").jobs] == [ids[2]]
    with pytest.raises(NotFound):
        store.list("ada", after="../etc/passwd")


def test_claim_beat_complete(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    job = claimed(store, board)
    assert job.state is State.IN_PROGRESS
    assert (job.attempt, job.worker) == (1, "w1")
    assert job.fence.startswith("1-")
    assert job.started_at is not None
    assert queued_count(store) == 0
    assert sweeps(store) == {f"{job.id}/{job.fence}/"}

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
    assert sweeps(store) == {f"{job.id}/checkpoints/"}, "in case that some were never pointed to"
    assert not store.beat(job.id, job.fence)


def test_every_end_answers_twice_the_same_and_has_one_effect(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    done = claimed(store, board, "w1")
    for _ in range(2):
        assert store.complete(done.id, done.fence, [], making.usage())
    failed = claimed(store, board, "w1")
    for _ in range(2):
        assert store.fail(failed.id, failed.fence, ERROR)
    retried = claimed(store, board, "w1")
    for _ in range(2):
        assert store.retry(retried.id, retried.fence, ERROR) is State.QUEUED
    assert store.get(retried.id).failures == 1
    handed = claimed(store, board, "w2")
    for _ in range(2):
        assert store.hand_back(handed.id, handed.fence)
    assert store.get(handed.id).failures == 0
    assert queued_count(store) == 2


def test_an_end_under_an_old_fence_is_refused(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    old = claimed(store, board)
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
    assert sweeps(store) == {f"{old.id}/{old.fence}/", f"{new.id}/{new.fence}/"}


def test_a_late_or_doubled_or_foreign_message_claims_nothing(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    job_id, number = released(store, board)
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


def test_a_busy_gang_claims_nothing_until_it_is_free(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    running = claimed(store, board, "w1")
    other, number = released(store, board)
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
    store: JobStore, state: str
) -> None:
    """Its worker hears the message all the same: a job waited there for a gang to load (chaos found)."""
    board, workers = Board(store, "me"), Workers(store)
    board.lead(600)
    if state == "silent":  # its announcement has run out
        workers.announce(making.worker("w1"))
        store.redis.delete("t:worker:w1")
    elif state != "unknown":
        workers.announce(making.worker("w1", state=state))
    job_id, number = released(store, board)
    for _ in range(2):
        assert store.claim(job_id, number, "w1") is None
        assert board.released() == frozenset()
        assert queued_count(store) == 1
    (release,) = board.release("tiny", 1)
    assert (release.job_id, release.number) == (job_id, number + 1)
    job = making.claim(store, job_id, release.number, "w2")
    assert job is not None
    assert job.attempt == 1


def test_an_old_attempts_end_leaves_the_next_one_of_the_same_worker_alone(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    old = claimed(store, board, "w1")
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


def test_a_cancelled_job_keeps_its_gang_until_it_stopped(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    job = claimed(store, board)
    cancelled = store.cancel(job.id, owner="ada")
    assert cancelled.state is State.CANCELLED
    assert store.cancel(job.id) == cancelled
    assert not store.beat(job.id, job.fence)
    assert store.redis.hget("t:gangs", "w1") == f"{job.id}/{job.fence}"
    store.gang_free("w1", job.id, job.fence)
    assert store.redis.hget("t:gangs", "w1") is None
    assert store.redis.exists("t:held:w1") == 0


def test_cancel_of_a_finished_job_is_a_conflict(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    job = claimed(store, board)
    store.fail(job.id, job.fence, ERROR)
    with pytest.raises(Conflict, match="failed already"):
        store.cancel(job.id)


def test_failures_are_capped_and_losses_apart(any_redis_url: str) -> None:
    store = JobStore.connect(making.settings(any_redis_url, max_failures=2, max_lost=2))
    board = Board(store, "me")
    board.lead(600)
    job = claimed(store, board)
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
    job = claimed(store, board)
    (before,) = board.running()
    store.beat(job.id, job.fence)
    assert board.lose(before) is None
    (now,) = board.running()
    assert board.lose(now) is State.FAILED
    error = store.get(job.id).error
    assert error is not None
    assert error.code == "worker_lost"


def test_expire_fails_a_queued_job_only(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    late = JobError(code="deadline", message="it waited too long")
    running = claimed(store, board, max_waiting_s=0)
    assert not store.expire(running.id, late)
    assert store.hand_back(running.id, running.fence)
    assert not store.expire(running.id, late), "it has started once"
    store.delete(running.id)
    job_id, number = released(store, board, max_waiting_s=0)
    assert store.expire(job_id, late)
    assert store.get(job_id).error == late
    assert making.claim(store, job_id, number, "w2") is None
    assert queued_count(store) == 0


def test_delete_cancels_removes_and_sweeps(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    queued = store.submit(making.job())
    store.delete(queued.id)
    running = claimed(store, board)
    store.delete(running.id, owner="ada")
    for job in (queued, running):
        with pytest.raises(NotFound):
            store.get(job.id)
        with pytest.raises(NotFound):
            store.delete(job.id)
    assert store.list("ada").jobs == ()
    assert queued_count(store) == 0
    assert not store.beat(running.id, running.fence)
    assert [files for files, _ in board.due_sweeps()] == [f"{queued.id}/"], "uploads may go on"
    assert f"{running.id}/" in sweeps(store)


def test_finished_jobs_retire_with_their_files(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    old, young = claimed(store, board, "w1"), claimed(store, board, "w2")
    for job in (old, young):
        store.complete(job.id, job.fence, [], making.usage())
    store.redis.zadd("t:expiry", {old.id: 1.0})
    assert not board.retire()
    assert [job.id for job in store.list("ada").jobs] == [young.id]
    assert [files for files, _ in board.due_sweeps()] == [f"{old.id}/"]


def test_a_terminal_edge_writes_its_webhook_event_once(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    url = "https://example.com/hook"
    done = claimed(store, board, "w1", webhook_url=url)
    store.complete(done.id, done.fence, [], making.usage())
    store.complete(done.id, done.fence, [], making.usage())
    gone = store.submit(making.job(webhook_url=url))
    store.delete(gone.id)
    claimed(store, board, "w3")
    hooks = {hook.event: hook for hook in board.due_hooks(10, 60)}
    assert set(hooks) == {f"evt_{done.id}_completed", f"evt_{gone.id}_cancelled"}
    assert hooks[f"evt_{done.id}_completed"].job == store.get(done.id)
    assert board.due_hooks(10, 60) == (), "held back while they are sent"


def test_cancels_of_running_jobs_are_heard_after_a_cut_too(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    heard: set[str] = set()
    stop = threading.Event()

    def listen() -> None:
        for job_id in store.cancels(stop):
            heard.add(job_id)

    listener = threading.Thread(target=listen)
    listener.start()
    for worker in ("w1", "w2"):
        wait_for(lambda: store.redis.pubsub_numsub("t:cancels")[0][1], "the listener is there")
        job = claimed(store, board, worker)
        store.cancel(job.id)
        wait_for(lambda: job.id in heard, "the cancel is heard")  # noqa: B023 - waits here
        store.redis.client_kill_filter(_type="pubsub")
    stop.set()
    listener.join()
    assert len(heard) == 2


def test_every_key_lies_under_the_prefix(store: JobStore) -> None:
    board = Board(store, "me")
    board.lead(600)
    job = claimed(store, board, webhook_url="https://example.com/hook")
    store.complete(job.id, job.fence, [], making.usage())
    store.submit(making.job())
    keys = list(store.redis.scan_iter())
    assert len(keys) > 10
    assert [key for key in keys if not key.startswith("t:")] == []


def test_a_preview_is_the_running_attempts_and_goes_by_itself(
    store: JobStore, board: Board
) -> None:
    job = claimed(store, board)
    assert store.preview(job) is None
    store.show_preview(job.id, job.fence, b"webp")
    assert store.preview(job) == "d2VicA=="
    assert 0 < int(store.redis.ttl(f"t:preview:{job.id}")) <= 60
    store.show_preview(job.id, "9-stale", b"late")
    assert store.preview(job) == "d2VicA=="
    store.hand_back(job.id, job.fence)
    assert store.preview(store.get(job.id)) is None, "another attempt begins anew"
