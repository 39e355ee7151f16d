"""A failover by a real Sentinel: what was acknowledged is on the new master, for store and broker."""

from __future__ import annotations

import threading

import pytest

from jobs.celery_app import make_celery, queue_name, send
from jobs.errors import StoreUnavailable
from jobs.states import State
from jobs.store import JobStore
from ops.stack.foreign import check_redis
from tests.fixtures.redis import RedisServer
from tests.fixtures.sentinel import Watched
from tests.fixtures.waiting import wait_for
from tests.jobs import making


def test_a_failover_loses_nothing_that_was_acknowledged(watched: Watched) -> None:
    settings = making.settings(watched.url)
    store = JobStore.connect(settings)
    app = make_celery(settings)
    accepted: list[str] = []
    stop, refused = threading.Event(), threading.Event()

    def submit() -> None:
        while not stop.is_set():
            job = making.job()
            try:
                store.submit(job)
            except StoreUnavailable:
                refused.set()
                stop.wait(0.05)
            else:
                accepted.append(job.id)

    assert check_redis(watched.url) == []
    send(app, making.job().id, "tiny", 1)
    client = threading.Thread(target=submit)
    client.start()
    try:
        wait_for(lambda: len(accepted) > 100, "jobs are accepted")
        watched.master.kill()
        before = len(accepted)
        wait_for(lambda: watched.master_port() == watched.replica.port, "the replica is promoted")
        # Nobody has a copy now: whoever waits for one is refused.
        wait_for(refused.is_set, "an answer without a copy is refused")
    finally:
        stop.set()
        client.join()

    assert len(accepted) <= before + 1, "the last answer may have been on its way"
    assert {store.get(job_id).state for job_id in accepted} == {State.QUEUED}
    unguarded = JobStore.connect(making.settings(watched.url, durability="server"))
    assert unguarded.submit(making.job()).state is State.QUEUED
    send(app, making.job().id, "tiny", 1)
    assert store.redis.llen(f"t:{queue_name('tiny')}") in {1, 2}, "a message is a hint"
    (warning,) = check_redis(watched.url)
    assert "no replica" in warning
    app.close()


def test_without_replicas_an_answer_may_wait_for_the_servers_disk(
    redis_server: RedisServer,
) -> None:
    power = JobStore.connect(making.settings(redis_server.url, durability="power"))
    assert power.submit(making.job()).state is State.QUEUED
    replica = JobStore.connect(making.settings(redis_server.url, durability="replica"))
    with pytest.raises(StoreUnavailable, match="WAIT: no copy of it within 1 s"):
        replica.submit(making.job())
