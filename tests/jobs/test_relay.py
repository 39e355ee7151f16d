"""The relay against a real server: ticks with a fake clock, the loop with real threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.artifacts import open_artifacts
from jobs.errors import StoreUnavailable
from jobs.relay.relay import Relay
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import Workers
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_for
from tests.jobs import making


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sent:
    """Where messages go; `broken` as a broker that does not answer."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, int]] = []
        self.broken = False

    def __call__(self, job_id: str, model: str, release: int) -> None:
        if self.broken:
            raise StoreUnavailable("the broker does not answer")
        self.messages.append((job_id, model, release))

    @property
    def ids(self) -> list[str]:
        return [job_id for job_id, _, _ in self.messages]


class Stand:
    """A relay with its own connection and everything around it."""

    def __init__(self, url: str, home: Path, *, tick_s: float = 1.0, **changes: float) -> None:
        self.settings = making.settings(url, home=home, **changes)
        self.store = JobStore.connect(self.settings)
        self.workers = Workers(self.store)
        self.sent = Sent()
        self.clock = Clock()
        self.ticking = self.relay(clock=self.clock)
        self.looping = self.relay(tick_s=tick_s)

    def relay(self, **options: object) -> Relay:
        parts = (self.settings, self.store, self.workers, self.sent, open_artifacts(self.settings))
        return Relay(*parts, **options)  # type: ignore[arg-type]

    def ticks(self, seconds: int) -> None:
        self.store.redis.set("t:lead", self.ticking.token)
        for _ in range(seconds):
            self.clock.now += 1
            self.ticking.tick()

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self.looping.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def stand(redis_url: str, tmp_path: Path) -> Stand:
    return Stand(redis_url, tmp_path)


def test_no_free_gang_no_release(stand: Stand) -> None:
    first, second = stand.store.submit(making.job()), stand.store.submit(making.job())
    stand.ticks(1)
    assert stand.sent.messages == []
    stand.workers.announce(making.worker("w1"))
    stand.ticks(3)
    assert stand.sent.messages == [(first.id, "tiny", 1)]
    job = stand.store.claim(first.id, 1, "w1")
    assert job is not None
    stand.ticks(1)
    assert stand.sent.ids == [first.id]
    stand.store.gang_free("w1", first.id, job.fence)
    stand.ticks(1)
    assert stand.sent.ids == [first.id, second.id], "though the first is still being stored"


def test_a_job_that_has_not_started_in_time_fails_and_no_other(stand: Stand) -> None:
    late = stand.store.submit(making.job(max_waiting_s=0, webhook_url="https://example.com/"))
    patient = stand.store.submit(making.job(max_waiting_s=3600))
    stand.ticks(1)
    failed = stand.store.get(late.id)
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert failed.error.code == "queue_timeout"
    assert stand.store.redis.zcard("t:outbox") == 1
    assert stand.store.get(patient.id).state is State.QUEUED
    stand.store.cancel(patient.id)
    assert not stand.store.redis.exists("t:deadlines")


def test_an_unclaimed_release_is_sent_again_under_the_next_number(stand: Stand) -> None:
    job = stand.store.submit(making.job())
    stand.workers.announce(making.worker("w1"))
    stand.ticks(20)
    assert stand.sent.messages[:3] == [(job.id, "tiny", number) for number in (1, 2, 3)]
    assert stand.store.claim(job.id, 1, "w1") is None
    assert stand.store.claim(job.id, stand.sent.messages[-1][2], "w1") is not None


def test_a_release_that_was_not_sent_is_sent_by_the_next_look(stand: Stand) -> None:
    job = stand.store.submit(making.job())
    stand.workers.announce(making.worker("w1"))
    stand.sent.broken = True
    with pytest.raises(StoreUnavailable):
        stand.ticks(1)
    stand.sent.broken = False
    stand.ticking.restart()
    stand.ticks(1)
    assert stand.sent.messages == [(job.id, "tiny", 1)]


def run_one(stand: Stand) -> tuple[str, str]:
    """Submit and claim a job that will never beat."""
    job = stand.store.submit(making.job())
    stand.workers.announce(making.worker("w1"))
    stand.ticks(1)
    claimed = stand.store.claim(job.id, 1, "w1")
    assert claimed is not None
    return claimed.id, claimed.fence


def test_a_silent_job_is_requeued_and_a_beating_one_is_not(stand: Stand) -> None:
    job_id, fence = run_one(stand)
    for _ in range(10):
        stand.ticks(5)
        assert stand.store.beat(job_id, fence)
    stand.ticks(14)
    assert stand.store.get(job_id).state is State.IN_PROGRESS
    stand.ticks(3)
    requeued = stand.store.get(job_id)
    assert (requeued.state, requeued.lost) == (State.QUEUED, 1)
    assert not stand.store.beat(job_id, fence)


def test_a_stopped_relay_requeues_nothing_when_it_goes_on(stand: Stand) -> None:
    job_id, _ = run_one(stand)
    stand.ticks(10)
    stand.clock.now += 3600
    stand.ticks(14)
    assert stand.store.get(job_id).state is State.IN_PROGRESS


def test_a_relay_whose_ticks_are_slow_still_finds_a_dead_worker(stand: Stand) -> None:
    job_id, _ = run_one(stand)
    for _ in range(5):
        stand.clock.now += 3
        stand.ticks(1)
    assert stand.store.get(job_id).state is State.QUEUED


def test_an_outage_longer_than_the_lease_requeues_nothing(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    stand = Stand(redis_server.url, tmp_path, tick_s=0.1, lease_s=1.5, beat_s=0.1)
    job = stand.store.submit(making.job())
    stop = threading.Event()
    refused = threading.Event()

    def worker() -> None:
        """Announces itself and beats, whatever Redis does."""
        client = JobStore.connect(stand.settings)
        fence = ""
        while not stop.wait(0.1):
            try:
                Workers(client).announce(making.worker("w1"))
                if not fence and stand.sent.messages:
                    claimed = client.claim(job.id, stand.sent.messages[-1][2], "w1")
                    fence = claimed.fence if claimed else ""
                if fence and not client.beat(job.id, fence):
                    refused.set()
            except StoreUnavailable:
                continue

    thread = threading.Thread(target=worker)
    thread.start()
    with stand.running():
        wait_for(lambda: stand.store.get(job.id).beat > 3, "the job runs")
        redis_server.kill()
        time.sleep(2.0)  # the outage itself: longer than the lease
        redis_server.start()
        before = stand.store.get(job.id)
        wait_for(lambda: stand.store.get(job.id).beat > before.beat + 5, "the job runs on")
    stop.set()
    thread.join()
    after = stand.store.get(job.id)
    assert (after.attempt, after.lost, after.fence) == (1, 0, before.fence)
    assert not refused.is_set()


def test_the_loop_is_woken_and_does_not_wait_for_its_tick(redis_url: str, tmp_path: Path) -> None:
    stand = Stand(redis_url, tmp_path, tick_s=2.5)
    stand.workers.announce(making.worker("w1"))
    took_s = []
    with stand.running():
        wait_for(lambda: stand.store.redis.exists("t:lead"), "the relay leads")
        for number in range(4):
            start = time.monotonic()
            job = stand.store.submit(making.job())
            wait_for(lambda: len(stand.sent.messages) > number, "the job is released")  # noqa: B023
            took_s.append(time.monotonic() - start)
            claimed = stand.store.claim(job.id, 1, "w1")
            assert claimed is not None
            stand.store.complete(job.id, claimed.fence, [], making.usage())
    assert sorted(took_s)[1] < 2.0


def test_a_standby_takes_over(redis_url: str, tmp_path: Path) -> None:
    first = Stand(redis_url, tmp_path, tick_s=0.1)
    second = Stand(redis_url, tmp_path, tick_s=0.1)
    first.workers.announce(making.worker("w1"))
    with second.running():
        wait_for(lambda: second.store.redis.exists("t:lead"), "the second leads")
        with first.running():
            job = first.store.submit(making.job())
            wait_for(lambda: second.sent.ids, "the leader releases it")
            assert first.sent.ids == []
    with first.running():
        wait_for(lambda: first.sent.ids, "the release is sent again by the new leader")
    assert set(first.sent.ids) == {job.id}
