"""The store's contract on every kind of server that it is used with: records, lists, what goes."""

from __future__ import annotations

import threading
import time

import pytest

from jobs.errors import NotFound, QueueFull
from jobs.record import new_id
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import JobStore
from tests.fixtures.waiting import wait_for
from tests.jobs import making


@pytest.fixture
def store(any_redis_url: str) -> JobStore:
    return JobStore.connect(making.settings(any_redis_url, max_queued=50))


def test_submit_stores_the_record_and_again_gives_the_same(store: JobStore) -> None:
    job = making.job(webhook_url="https://example.com/hook")
    assert store.submit(job) == job
    assert store.submit(job) == job
    assert store.get(job.id, owner="ada") == job
    assert making.queued_count(store) == 1


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


def test_delete_cancels_removes_and_sweeps(store: JobStore, board: Board) -> None:
    queued = store.submit(making.job())
    store.delete(queued.id)
    running = making.claimed(store, board)
    store.delete(running.id, owner="ada")
    for job in (queued, running):
        with pytest.raises(NotFound):
            store.get(job.id)
        with pytest.raises(NotFound):
            store.delete(job.id)
    assert store.list("ada").jobs == ()
    assert making.queued_count(store) == 0
    assert not store.beat(running.id, running.fence)
    assert [files for files, _ in board.due_sweeps()] == [f"{queued.id}/"], "uploads may go on"
    assert f"{running.id}/" in making.sweeps(store)


def test_finished_jobs_retire_with_their_files(store: JobStore, board: Board) -> None:
    old, young = making.claimed(store, board, "w1"), making.claimed(store, board, "w2")
    for job in (old, young):
        store.complete(job.id, job.fence, [], making.usage())
    store.redis.zadd("t:expiry", {old.id: 1.0})
    assert not board.retire()
    assert [job.id for job in store.list("ada").jobs] == [young.id]
    assert [files for files, _ in board.due_sweeps()] == [f"{old.id}/"]


def test_a_terminal_edge_writes_its_webhook_event_once(store: JobStore, board: Board) -> None:
    url = "https://example.com/hook"
    done = making.claimed(store, board, "w1", webhook_url=url)
    store.complete(done.id, done.fence, [], making.usage())
    store.complete(done.id, done.fence, [], making.usage())
    gone = store.submit(making.job(webhook_url=url))
    store.delete(gone.id)
    making.claimed(store, board, "w3")
    hooks = {hook.event: hook for hook in board.due_hooks(10, 60)}
    assert set(hooks) == {f"evt_{done.id}_completed", f"evt_{gone.id}_cancelled"}
    assert hooks[f"evt_{done.id}_completed"].job == store.get(done.id)
    assert board.due_hooks(10, 60) == (), "held back while they are sent"


def test_cancels_of_running_jobs_are_heard_after_a_cut_too(store: JobStore, board: Board) -> None:
    heard: set[str] = set()
    stop = threading.Event()

    def listen() -> None:
        for job_id in store.cancels(stop):
            heard.add(job_id)

    listener = threading.Thread(target=listen)
    listener.start()
    for worker in ("w1", "w2"):
        wait_for(lambda: store.redis.pubsub_numsub("t:cancels")[0][1], "the listener is there")
        job = making.claimed(store, board, worker)
        store.cancel(job.id)
        wait_for(lambda: job.id in heard, "the cancel is heard")  # noqa: B023 - waits here
        store.redis.client_kill_filter(_type="pubsub")
    stop.set()
    listener.join()
    assert len(heard) == 2


def test_every_key_lies_under_the_prefix(store: JobStore, board: Board) -> None:
    job = making.claimed(store, board, webhook_url="https://example.com/hook")
    store.complete(job.id, job.fence, [], making.usage())
    store.submit(making.job())
    keys = list(store.redis.scan_iter())
    assert len(keys) > 10
    assert [key for key in keys if not key.startswith("t:")] == []


def test_a_preview_is_the_running_attempts_and_goes_by_itself(
    store: JobStore, board: Board
) -> None:
    job = making.claimed(store, board)
    assert store.preview(job) is None
    store.show_preview(job.id, job.fence, b"webp")
    assert store.preview(job) == "d2VicA=="
    assert 0 < int(store.redis.ttl(f"t:preview:{job.id}")) <= 60
    store.show_preview(job.id, "9-stale", b"late")
    assert store.preview(job) == "d2VicA=="
    store.hand_back(job.id, job.fence)
    assert store.preview(store.get(job.id)) is None, "another attempt begins anew"
