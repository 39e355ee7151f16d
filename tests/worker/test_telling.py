"""Flower's states, replayed: true after retried, doubled and late messages."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.record import Job, JobError
from jobs.states import State
from tests.jobs import making
from tests.worker.conftest import flower_state
from worker.telling import event_of

ENDS = {
    State.COMPLETED: "SUCCESS",
    State.FAILED: "FAILURE",
    State.CANCELLED: "REVOKED",
}


class Replay:
    """Celery's events of one job, as its workers send them."""

    def __init__(self) -> None:
        self.job = making.job()
        self._events: list[dict[str, Any]] = []

    def send(self, kind: str, worker: str, **fields: object) -> None:
        moment = float(len(self._events) + 1)
        event = {"type": kind, "uuid": self.job.id, "hostname": worker, "timestamp": moment}
        event |= {"local_received": moment, "clock": len(self._events) + 1, "pid": 1}
        self._events.append(event | fields)

    def begin(self, worker: str) -> None:
        """A message arrives there, and Celery starts its task."""
        self.send("task-received", worker, name="rushes.generate", args="()", kwargs="{}")
        self.send("task-started", worker)

    def ignore(self, worker: str, job: Job | None) -> None:
        """The task raises Ignore while the record reads so."""
        event = event_of(job)
        if event is not None:
            self.send(event[0], worker, **event[1])

    @property
    def state(self) -> str:
        return flower_state(self._events, self.job.id)


def test_a_job_that_is_tried_again_waits_runs_and_ends() -> None:
    replay = Replay()
    for worker in ("a", "b"):
        replay.begin(worker)
        assert replay.state == "STARTED"
        replay.ignore(worker, replay.job)
        assert replay.state == "RETRY"
    replay.begin("a")
    assert replay.state == "STARTED"
    replay.send("task-succeeded", "a", runtime=1.0)
    assert replay.state == "SUCCESS"


@pytest.mark.parametrize("end", ENDS)
def test_a_doubled_message_changes_nothing_while_it_runs_nor_after_its_end(end: State) -> None:
    replay = Replay()
    running = replay.job.model_copy(update={"state": State.IN_PROGRESS})
    error = JobError(code="error", message="as told")
    ended = replay.job.model_copy(update={"state": end, "error": error})
    replay.begin("a")
    replay.begin("b")
    replay.ignore("b", running)
    assert replay.state == "STARTED"
    replay.ignore("a", ended)
    assert replay.state == ENDS[end]
    replay.begin("b")
    assert replay.state == ENDS[end]
    replay.ignore("b", ended)
    assert replay.state == ENDS[end]


def test_a_deleted_job_counts_as_cancelled() -> None:
    replay = Replay()
    replay.begin("a")
    replay.ignore("a", None)
    assert replay.state == "REVOKED"
