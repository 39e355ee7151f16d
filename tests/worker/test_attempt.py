"""How a try ends by what its gang answers."""

from __future__ import annotations

import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from jobs.artifacts.disk import DiskArtifacts
from jobs.store import JobStore
from pipeline.gang.gang import GangDied
from pipeline.gang.protocol import Failed, Run
from tests.jobs import making
from worker.attempt import Attempt
from worker.beat import Beat, Held
from worker.checkpoints import Pace
from worker.endings import TryFailed
from worker.supervisor import Supervisor, Work

OUT_OF_MEMORY = Failed(run_id="r", code="out_of_memory", message="ask for num_frames 41")


class Bench:
    """A try of a job that is held, to be run."""

    def __init__(self, tmp_path: Path) -> None:
        self.held = Held(making.job().model_copy(update={"fence": "1-aa"}))
        self.supervisor = Mock(spec=Supervisor)
        self.attempt = Attempt(
            self.held,
            worker_id="w",
            store=Mock(spec=JobStore),
            artifacts=DiskArtifacts(tmp_path / "artifacts"),
            beat=Mock(spec=Beat),
            supervisor=self.supervisor,
            draining=threading.Event(),
            store_retry_s=1,
            pace=Pace(0, 0),
            preview_s=1.0,
        )

    def answers(self, answer: Failed | GangDied) -> None:
        """What the gang will say."""
        work = Work(Mock(spec=Run), lambda _: None)
        if isinstance(answer, Failed):
            work.outcome.set_result(answer)
        else:
            work.outcome.set_exception(answer)
        self.supervisor.submit.return_value = work


@pytest.mark.parametrize("fatal", [False, True], ids=["the gang lives", "the gang is lost"])
def test_want_of_memory_fails_the_job_at_once_with_the_advice(tmp_path: Path, fatal: bool) -> None:
    bench = Bench(tmp_path)
    bench.answers(OUT_OF_MEMORY.model_copy(update={"fatal": fatal}))

    with pytest.raises(TryFailed) as failed:
        bench.attempt.run(tmp_path)

    assert not failed.value.again
    assert failed.value.error.code == "out_of_memory"
    assert "num_frames 41" in failed.value.error.message


def test_nan_fails_the_job_at_once_as_the_same_seed_would_compute_it_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answers(Failed(run_id="r", code="not_finite", message="not finite after step 1"))

    with pytest.raises(TryFailed) as failed:
        bench.attempt.run(tmp_path)

    assert not failed.value.again
    assert failed.value.error.code == "not_finite"


@pytest.mark.parametrize(
    "answer",
    [Failed(run_id="r", code="cancelled", message="cancelled"), GangDied("killed")],
    ids=["it stopped", "it was killed"],
)
def test_a_run_that_took_too_long_fails_for_good(tmp_path: Path, answer: Failed | GangDied) -> None:
    bench = Bench(tmp_path)
    bench.answers(answer)
    bench.held.overdue.set()

    with pytest.raises(TryFailed) as failed:
        bench.attempt.run(tmp_path)

    assert not failed.value.again
    assert failed.value.error.code == "run_timeout"
