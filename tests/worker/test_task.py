"""The task where the worker itself is in trouble; that it works is shown by real workers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from celery.exceptions import Ignore

from jobs.artifacts import ArtifactStore
from jobs.record import Job
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import Workers
from pipeline.gang import protocol
from tests.fixtures.waiting import wait_for
from tests.jobs import making
from tests.worker.test_presence import OPTIONS, READY
from worker.attempts import Attempts
from worker.beat import Beat
from worker.checkpoints import Pace
from worker.disk import Disk
from worker.presence import Presence
from worker.supervisor import Supervisor, Work
from worker.task import JobFailed, Worker

LOOK_S = 0.05


class House:
    """A worker's own parts on a real disk and a real store; its gang is played."""

    def __init__(self, redis_url: str, home: Path) -> None:
        settings = making.settings(redis_url)
        self.store = JobStore.connect(settings)
        self.workers = Workers(self.store)
        presence = Presence(self.workers, OPTIONS, slots=2)
        self.attempts = Attempts(home, presence.id)
        self.supervisor = Mock(spec=Supervisor)
        self.worker = Worker(
            store=self.store,
            artifacts=Mock(spec=ArtifactStore),
            presence=presence,
            supervisor=self.supervisor,
            beat=Beat(self.store, presence, self.supervisor, settings, Mock()),
            attempts=self.attempts,
            disk=Disk(self.attempts, presence, backoff_s=(LOOK_S,)),
            devices=1,
            store_retry_s=0.0,
            pace=Pace(0, 0.0),
            preview_s=0.0,
        )
        presence.ready(READY, restarts=0)
        self.aside = home / "aside"
        self.board = Board(self.store, token="me")
        assert self.board.lead(600)

    @property
    def state(self) -> str:
        (worker,) = self.workers.live()
        return worker.info.state

    def submit(self) -> Job:
        return self.store.submit(making.job(model="small"))

    def perform(self, job: Job) -> Job:
        """Deliver the job, released as the relay does it; what became of it."""
        (release,) = self.board.release("small", 1)
        assert release.job_id == job.id
        with pytest.raises((Ignore, JobFailed)):
            self.worker.perform(job.id, release.number)
        return self.store.get(job.id)

    def gang_cannot_write(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Every run ends so; `meanwhile` is done during it."""

        def submit(run: protocol.Run, on_news: object) -> Work:
            work = Work(run, Mock())
            meanwhile()
            work.outcome.set_result(
                protocol.Failed(run_id=run.run_id, code="error", message="cannot write video.mp4")
            )
            return work

        self.supervisor.submit.side_effect = submit

    def break_disk(self) -> None:
        """Nothing can be made in the attempts' folder any more."""
        self.attempts.folder.rename(self.aside)

    def mend_disk(self) -> None:
        self.aside.rename(self.attempts.folder)


@pytest.fixture
def house(redis_url: str, tmp_path: Path) -> Iterator[House]:
    house = House(redis_url, tmp_path)
    yield house
    if house.aside.exists():
        house.mend_disk()
    wait_for(lambda: house.state == "ready", "nobody waits for the disk any more")
    house.attempts.close()


@pytest.mark.parametrize("found", ["before the run", "by the gang"])
def test_a_broken_disk_costs_no_try_and_its_worker_takes_no_job_until_it_works(
    house: House, found: str
) -> None:
    job, other = house.submit(), house.submit()
    if found == "before the run":
        house.break_disk()
    else:
        house.gang_cannot_write(meanwhile=house.break_disk)

    handed_back = house.perform(job)

    assert (handed_back.state, handed_back.attempt) == (State.QUEUED, 1)
    assert (handed_back.failures, handed_back.error) == (0, None)
    assert house.state == "unhealthy"
    assert house.perform(job).attempt == 1, "refused"
    assert house.store.get(other.id).attempt == 0

    house.mend_disk()
    wait_for(lambda: house.state == "ready", "it takes jobs again")
    house.gang_cannot_write()
    assert house.perform(job).attempt == 2


def test_a_job_that_cannot_be_written_to_a_sound_disk_fails(house: House) -> None:
    house.gang_cannot_write()
    job = house.submit()

    most = house.store.settings.max_failures
    states = [house.perform(job).state for _ in range(most)]

    assert states == [State.QUEUED] * (most - 1) + [State.FAILED]
    assert house.state == "ready"


def test_an_error_of_the_worker_costs_a_try_whose_reason_names_no_path(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/me/.rushes/attempts")
    monkeypatch.setattr(house.attempts, "directory", Mock(side_effect=full))

    tried = house.perform(house.submit())

    assert (tried.state, tried.failures) == (State.QUEUED, 1)
    assert tried.error is not None
    assert tried.error.code == "worker_error"
    assert tried.error.message == "the worker failed: No space left on device"
