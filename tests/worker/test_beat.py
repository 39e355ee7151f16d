"""The beat: what a refusal means, and what silence does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import Mock, call

from jobs.record import Job, Progress
from jobs.relay.board import Board
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from pipeline.options import EngineOptions
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_for
from tests.jobs import making
from tests.worker.test_presence import READY
from worker.beat import Beat
from worker.intake import Intake
from worker.presence import Presence
from worker.supervisor import Supervisor, Work


class Bench:
    """A beat over a real store; the supervisor only notes what it is told."""

    def __init__(self, settings: Settings) -> None:
        self.store = JobStore.connect(settings)
        options = EngineOptions(model_path="/models/tiny")
        self.presence = Presence(Workers(self.store), options, slots=2)
        self.supervisor = Mock(spec=Supervisor)
        self.intake = Mock(spec=Intake)
        self.beat = Beat(self.store, self.presence, self.supervisor, settings, self.intake)

    def claimed(self, **changes: object) -> Job:
        """A job that this worker has."""
        board = Board(self.store, token="me")
        assert board.lead(600)
        self.presence.ready(READY, restarts=0)  # only then may it claim
        job = self.store.submit(making.job(**changes))  # type: ignore[arg-type]
        (release,) = board.release("tiny", 1)
        claimed = self.store.claim(job.id, release.number, self.presence.id)
        assert claimed is not None
        return claimed


@contextmanager
def beating(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    bench.beat.start()
    try:
        yield bench
    finally:
        bench.beat.stop()


def test_a_held_job_is_beaten_for_and_its_progress_written(redis_url: str) -> None:
    with beating(making.settings(redis_url, beat_s=0.3)) as bench:
        job = bench.claimed()
        with bench.beat.hold(job) as held:
            assert bench.beat.holds(job)
            wait_for(lambda: bench.store.get(job.id).beat > 2, "it beats")
            progress = Progress(stage="denoising", step=3, steps=9)
            bench.beat.note(held, progress)
            wait_for(lambda: bench.store.get(job.id).progress == progress, "it tells")
            assert not held.lost.is_set()
        assert not bench.beat.holds(job)


def test_two_attempts_of_one_job_are_beaten_for_apart(redis_url: str) -> None:
    with beating(making.settings(redis_url, beat_s=0.3)) as bench:
        new = bench.claimed()
        old = new.model_copy(update={"fence": "0-gone"})
        with bench.beat.hold(new) as kept:
            with bench.beat.hold(old) as lost:
                assert len(bench.beat.held) == 2
                wait_for(lost.lost.is_set, "the old one is lost")
            assert bench.beat.holds(new)
            assert not bench.beat.holds(old)
            beat = bench.store.get(new.id).beat
            wait_for(lambda: bench.store.get(new.id).beat > beat, "the new one is beaten for")
            assert not kept.lost.is_set()


def test_a_cancelled_job_is_lost_and_its_run_cancelled(redis_url: str) -> None:
    with beating(making.settings(redis_url, beat_s=0.3, cancel_grace_s=0.3)) as bench:
        job = bench.claimed()
        with bench.beat.hold(job) as held:
            work = held.work = Mock(spec=Work, started_at=None)
            wait_for(lambda: bench.store.get(job.id).beat, "it beats")
            bench.store.cancel(job.id)
            wait_for(held.lost.is_set, "it is lost")
            wait_for(lambda: bench.supervisor.cancel.called, "the run is cancelled")
            bench.supervisor.cancel.assert_called_once_with(work)
            wait_for(lambda: bench.supervisor.kill.called, "the gang is killed after the grace")


def test_a_run_that_takes_too_long_is_stopped_and_killed_after_the_grace(redis_url: str) -> None:
    with beating(making.settings(redis_url, beat_s=0.3, cancel_grace_s=0.3)) as bench:
        job = bench.claimed(max_running_s=60)
        with bench.beat.hold(job) as held:
            work = held.work = Mock(spec=Work, started_at=None)
            beats = bench.store.get(job.id).beat + 2
            wait_for(lambda: bench.store.get(job.id).beat >= beats, "it waits for its gang")
            assert not held.overdue.is_set()
            work.started_at = time.monotonic() - 60
            wait_for(lambda: bench.supervisor.cancel.called, "the run is cancelled")
            bench.supervisor.cancel.assert_called_once_with(work)
            wait_for(lambda: bench.supervisor.kill.called, "the gang is killed")
            assert held.overdue.is_set()
            assert not held.lost.is_set()


def test_the_hint_of_a_cancel_is_followed_before_the_next_beat(redis_url: str) -> None:
    with beating(making.settings(redis_url, beat_s=600, lease_s=1800)) as bench:
        job = bench.claimed()
        with bench.beat.hold(job) as held:
            redis = bench.store.redis
            wait_for(lambda: redis.pubsub_numsub("t:cancels")[0][1], "it listens")
            bench.store.cancel(job.id)
            wait_for(held.lost.is_set, "it is lost")


def test_a_refusal_while_the_end_is_written_means_nothing(redis_url: str) -> None:
    with beating(making.settings(redis_url, beat_s=0.3)) as bench:
        job = bench.claimed()
        with bench.beat.hold(job) as held:
            held.ending = True
            assert bench.store.complete(job.id, job.fence, (), making.usage())
            told = Mock(wraps=bench.store.beat)
            bench.store.beat = told  # type: ignore[method-assign]
            wait_for(lambda: told.call_count >= 2, "the beat is refused")
            assert not held.lost.is_set()


def test_a_store_that_is_away_means_nothing(redis_server: RedisServer) -> None:
    with beating(making.settings(redis_server.url, beat_s=0.3)) as bench:
        job = bench.claimed()
        with bench.beat.hold(job) as held:
            wait_for(lambda: bench.store.get(job.id).beat, "it beats")
            redis_server.kill()
            redis_server.start()
            beat = bench.store.get(job.id).beat
            wait_for(lambda: bench.store.get(job.id).beat > beat, "it beats again")
            assert not held.lost.is_set()
            bench.supervisor.cancel.assert_not_called()


def test_a_worker_listens_to_its_queue_only_while_its_disk_works(redis_url: str) -> None:
    with beating(making.settings(redis_url, beat_s=0.3)) as bench:
        keep = bench.intake.keep
        wait_for(lambda: keep.call_args == call(open_=True), "it listens")
        bench.presence.note_disk(usable=False)
        wait_for(lambda: keep.call_args == call(open_=False), "it does not")
        bench.presence.note_disk(usable=True)
        wait_for(lambda: keep.call_args == call(open_=True), "it listens again")
