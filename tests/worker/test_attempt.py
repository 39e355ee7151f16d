"""A try whose storage is away: the finished file is kept and waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from jobs.artifacts import StoredFile
from jobs.artifacts.disk import DiskArtifacts
from jobs.errors import StorageRefused
from jobs.record import Artifact
from jobs.store import JobStore
from pipeline.gang.gang import GangDied
from pipeline.gang.protocol import Done, Failed, ItemResult, Run
from tests.fixtures.waiting import wait_for
from tests.jobs import making
from worker import attempt
from worker.attempt import Attempt, HandedBack, Lost, TryFailed
from worker.beat import Beat, Held
from worker.checkpoints import Pace
from worker.supervisor import Supervisor, Work

DONE = Done(
    run_id="r",
    results=(
        ItemResult(
            file="video.mp4",
            content_type="video/mp4",
            size_bytes=5,
            width=64,
            height=64,
            num_frames=5,
            fps=8,
            seed=1,
            timings_s={},
        ),
    ),
    started_at=1.0,
    ended_at=2.0,
    peak_memory_bytes=0,
)


class Outage(DiskArtifacts):
    """Refuses as S3 does with a wrong secret, `refusals` times."""

    def __init__(self, root: Path, refusals: float) -> None:
        super().__init__(root)
        self.refusals = refusals
        self.asked = 0

    def put(self, key: str, path: Path, content_type: str) -> StoredFile:
        self.asked += 1
        if self.asked <= self.refusals:
            raise StorageRefused("S3 upload in films was answered 403 SignatureDoesNotMatch")
        return super().put(key, path, content_type)


class Bench:
    """A finished run of a job that is held, to be stored."""

    def __init__(self, tmp_path: Path, refusals: float, *, store_retry_s: float) -> None:
        self.directory = tmp_path
        (tmp_path / "video.mp4").write_bytes(b"video")
        self.artifacts = Outage(tmp_path / "artifacts", refusals)
        self.held = Held(making.job().model_copy(update={"fence": "1-aa"}))
        self.draining = threading.Event()
        self.supervisor = Mock(spec=Supervisor)
        self.attempt = Attempt(
            self.held,
            worker_id="w",
            store=Mock(spec=JobStore),
            artifacts=self.artifacts,
            beat=Mock(spec=Beat),
            supervisor=self.supervisor,
            draining=self.draining,
            store_retry_s=store_retry_s,
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

    def store(self) -> tuple[Artifact, ...]:
        return self.attempt.store(DONE, self.directory)


def test_an_outage_longer_than_every_back_off_costs_no_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "STORAGE_BACKOFF_S", (0.001, 0.002))
    bench = Bench(tmp_path, 20, store_retry_s=60)

    (artifact,) = bench.store()

    assert bench.artifacts.asked == 21
    assert b"".join(bench.artifacts.read(artifact.key)) == b"video"


OUT_OF_MEMORY = Failed(run_id="r", code="out_of_memory", message="ask for num_frames 41")


@pytest.mark.parametrize("fatal", [False, True], ids=["the gang lives", "the gang is lost"])
def test_want_of_memory_fails_the_job_at_once_with_the_advice(tmp_path: Path, fatal: bool) -> None:
    bench = Bench(tmp_path, 0, store_retry_s=1)
    bench.answers(OUT_OF_MEMORY.model_copy(update={"fatal": fatal}))

    with pytest.raises(TryFailed) as failed:
        bench.attempt.run(tmp_path)

    assert not failed.value.again
    assert failed.value.error.code == "out_of_memory"
    assert "num_frames 41" in failed.value.error.message


@pytest.mark.parametrize(
    "answer",
    [Failed(run_id="r", code="cancelled", message="cancelled"), GangDied("killed")],
    ids=["it stopped", "it was killed"],
)
def test_a_run_that_took_too_long_fails_for_good(tmp_path: Path, answer: Failed | GangDied) -> None:
    bench = Bench(tmp_path, 0, store_retry_s=1)
    bench.answers(answer)
    bench.held.overdue.set()

    with pytest.raises(TryFailed) as failed:
        bench.attempt.run(tmp_path)

    assert not failed.value.again
    assert failed.value.error.code == "run_timeout"


def test_past_the_bound_the_job_fails_for_good_and_the_client_hears_no_details(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, float("inf"), store_retry_s=0.7)

    with pytest.raises(TryFailed) as failed:
        bench.store()

    assert not failed.value.again
    assert failed.value.error.code == "storage_unavailable"
    assert failed.value.error.message == "the storage was away for 0.7 s"
    assert bench.artifacts.asked == 3, "at once, after 0.5 s, at the bound"


@pytest.mark.parametrize(
    ("expected", "end"),
    [
        (HandedBack, lambda bench: bench.draining.set()),
        (Lost, lambda bench: bench.held.lost.set()),
    ],
    ids=["the worker leaves", "the job is cancelled"],
)
def test_whoever_waits_for_the_storage_stops_waiting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: type[Exception],
    end: Callable[[Bench], None],
) -> None:
    monkeypatch.setattr(attempt, "STORAGE_BACKOFF_S", (600.0,))
    bench = Bench(tmp_path, float("inf"), store_retry_s=3600)
    ended: list[Exception] = []

    def store() -> None:
        try:
            bench.store()
        except Exception as error:  # noqa: BLE001 - looked at below
            ended.append(error)

    thread = threading.Thread(target=store, daemon=True)
    thread.start()
    wait_for(lambda: bench.artifacts.asked, "it has been refused")
    began = time.monotonic()
    end(bench)
    thread.join(10)

    assert [type(error) for error in ended] == [expected]
    assert time.monotonic() - began < 5
