from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from jobs.connection import ANSWER_S, connect
from jobs.errors import SettingsError, StoreUnavailable
from jobs.record import JobError
from jobs.store import JobStore
from jobs.workers import Workers
from tests.fixtures.redis import RedisServer, free_port
from tests.jobs import making

ERROR = JobError(code="error", message="it broke")
ACTS: list[Callable[[JobStore], object]] = [
    lambda store: store.ping(),
    lambda store: store.submit(making.job()),
    lambda store: store.get("video_1"),
    lambda store: store.list("ada"),
    lambda store: store.claim("video_1", 1, "w1"),
    lambda store: store.beat("video_1", "1-a"),
    lambda store: store.complete("video_1", "1-a", [], making.usage()),
    lambda store: store.retry("video_1", "1-a", ERROR),
    lambda store: store.cancel("video_1"),
    lambda store: store.delete("video_1"),
    lambda store: Workers(store).live(),
    lambda store: Workers(store).card("tiny"),
    lambda store: Workers(store).announce(making.worker()),
]


@pytest.mark.parametrize("act", ACTS)
def test_a_server_that_is_away_is_our_own_error_at_once(act: Callable[[JobStore], object]) -> None:
    store = JobStore.connect(making.settings(f"redis://:hunter2@127.0.0.1:{free_port()}/0"))
    start = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        act(store)
    assert time.monotonic() - start < 2.5
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_stopped_is_not_waited_for_twice(redis_server: RedisServer) -> None:
    store = JobStore.connect(making.settings(redis_server.url))
    store.ping()
    redis_server.signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.submit(making.job())
    took_s = time.monotonic() - start
    redis_server.signal(signal.SIGCONT)
    assert took_s < 2 * ANSWER_S
    store.submit(making.job())


def test_refused_writes_are_our_own_error_and_leave_nothing(redis_server: RedisServer) -> None:
    store = JobStore.connect(making.settings(redis_server.url))
    store.redis.config_set("maxmemory", "1")
    job = making.job()
    with pytest.raises(StoreUnavailable, match="OutOfMemory"):
        store.submit(job)
    assert store.redis.dbsize() == 0
    store.redis.config_set("maxmemory", "0")
    assert store.submit(job) == job


def test_scripts_survive_a_server_that_forgot_them(store: JobStore) -> None:
    store.submit(making.job())
    store.redis.script_flush()
    store.submit(making.job())


def test_acknowledged_jobs_survive_a_kill_of_the_server(redis_server: RedisServer) -> None:
    store = JobStore.connect(making.settings(redis_server.url))
    jobs = [store.submit(making.job(created_at=1000.0 + n)) for n in range(20)]
    redis_server.kill()
    redis_server.start()
    assert list(store.list("ada", limit=50, order="asc").jobs) == jobs


@pytest.mark.parametrize("url", [None, "http://127.0.0.1", "redis://127.0.0.1:port/0"])
def test_a_url_that_cannot_be_is_a_settings_error(url: str | None) -> None:
    settings = making.settings("x").model_copy(update={"redis_url": url})
    with pytest.raises(SettingsError, match="RUSHES_REDIS_URL"):
        connect(settings)
