"""Watching jobs: one reader, woken watches, a bound, an outage."""

from __future__ import annotations

import threading

import pytest

from jobs.errors import Busy
from jobs.events import Events
from jobs.record import Progress
from jobs.relay.board import Board
from jobs.store import JobStore
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_for
from tests.jobs import making


def readers() -> int:
    return sum(thread.name == "events" for thread in threading.enumerate())


def test_every_change_wakes_who_watches_that_job(store: JobStore, board: Board) -> None:
    events = Events(store, most=10)
    watched, other = store.submit(making.job()), store.submit(making.job())
    watch, idle = events.watch(watched.id), events.watch(other.id)
    assert watch.wait(5), "subscribed: look again"
    assert idle.wait(5)
    number = next(r.number for r in board.release("tiny", 9) if r.job_id == watched.id)
    job = making.claim(store, watched.id, number)
    assert job is not None
    assert watch.wait(5), "claimed"
    store.beat(job.id, job.fence, Progress(stage="denoising", step=1, steps=2))
    assert watch.wait(5), "progress"
    store.cancel(job.id)
    assert watch.wait(5), "cancelled"
    assert not idle.wait(0.05)
    watch.close()
    watch.close()
    idle.close()
    assert events.open == 0
    wait_for(lambda: readers() == 0, "the reader ends with the last watch")


def test_watches_are_bounded(store: JobStore) -> None:
    events = Events(store, most=2)
    first, second = events.watch("a"), events.watch("a")
    with pytest.raises(Busy):
        events.watch("b")
    first.close()
    events.watch("b").close()
    second.close()


def test_an_outage_ends_in_a_look_at_everything(redis_server: RedisServer) -> None:
    store = JobStore.connect(making.settings(redis_server.url))
    job = store.submit(making.job())
    watch = Events(store, most=2).watch(job.id)
    assert watch.wait(5)
    redis_server.kill()
    redis_server.start()
    assert watch.wait(20), "what happened meanwhile was not heard: look"
    watch.close()
    wait_for(lambda: readers() == 0, "the reader ends")
