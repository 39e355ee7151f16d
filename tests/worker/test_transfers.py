"""A try whose storage is away: the finished file is kept and waits for it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.artifacts import StoredFile
from jobs.artifacts.disk import DiskArtifacts
from jobs.errors import StorageRefused
from jobs.record import Artifact
from pipeline.gang.protocol import Done, ItemResult
from tests.fixtures.waiting import wait_for
from tests.jobs import making
from worker import transfers
from worker.beat import Held
from worker.endings import HandedBack, Lost, TryFailed
from worker.transfers import Transfers

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
        self.transfers = Transfers(
            self.held,
            self.artifacts,
            draining=self.draining,
            store_retry_s=store_retry_s,
            note=lambda stage, step, steps: None,
        )

    def store(self) -> tuple[Artifact, ...]:
        return self.transfers.store(DONE, self.directory)


def test_an_outage_longer_than_every_back_off_costs_no_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "STORAGE_BACKOFF_S", (0.001, 0.002))
    bench = Bench(tmp_path, 20, store_retry_s=60)

    (artifact,) = bench.store()

    assert bench.artifacts.asked == 21
    assert b"".join(bench.artifacts.read(artifact.key)) == b"video"


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


def test_a_disk_that_stays_full_is_named_but_not_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    bench = Bench(tmp_path, 0, store_retry_s=0.1)
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(TryFailed) as failed:
        bench.store()

    message = "the storage was away for 0.1 s: No space left on device"
    assert failed.value.error.message == message


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
    monkeypatch.setattr(transfers, "STORAGE_BACKOFF_S", (600.0,))
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
