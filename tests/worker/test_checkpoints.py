"""An attempt's checkpoints on their way to the storage and back. (End to end: test_main.py.)"""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from jobs.artifacts import StoredFile
from jobs.artifacts.disk import DiskArtifacts
from jobs.errors import NotFound, StorageUnavailable
from jobs.record import Checkpoint, Job
from pipeline.gang import protocol
from tests.jobs import making
from worker.checkpoints import RESUME, Checkpoints, Damaged, fetch

PATIENCE_S = 20.0


class Slow(DiskArtifacts):
    """Stores when it is let; fails while `away`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.let = threading.Event()
        self.let.set()
        self.away = False
        self.keys: list[str] = []

    def put(self, key: str, path: Path, content_type: str) -> StoredFile:
        assert self.let.wait(PATIENCE_S)
        if self.away:
            raise StorageUnavailable("no answer")
        self.keys.append(key)
        return super().put(key, path, content_type)


class Record:
    """The job's record, as far as checkpoints go."""

    def __init__(self) -> None:
        self.pointed: list[Checkpoint] = []

    def checkpoint(self, job_id: str, fence: str, checkpoint: Checkpoint) -> bool:
        self.pointed.append(checkpoint)
        return True


class Bench:
    def __init__(self, folder: Path, job: Job | None = None) -> None:
        self.directory = folder / "attempt"
        self.directory.mkdir()
        self.artifacts = Slow(folder / "artifacts")
        self.record = Record()
        self.job = job or making.job(fence="1-aa")
        self.checkpoints = Checkpoints(
            self.job,
            self.directory,
            self.record,  # type: ignore[arg-type]
            self.artifacts,
        )

    def leave(self, number: int, *outputs: str) -> protocol.Checkpoint:
        """What a gang does: files, then the word of them."""
        name = f"checkpoint-{number}"
        own = (f"{name}.safetensors", f"{name}.json")
        for file in (*own, *outputs):
            (self.directory / file).write_text(f"{file} of {self.job.fence}")
        return protocol.Checkpoint(
            run_id="r", name=name, item=len(outputs), step=number, steps=9, files=(*own, *outputs)
        )

    def read(self, key: str, path: Path) -> None:
        with closing(self.artifacts.read(key)) as chunks:
            path.write_bytes(b"".join(chunks))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_stored_comes_back_under_the_name_that_a_run_resumes_from(
    bench: Bench, tmp_path: Path
) -> None:
    with closing(bench.checkpoints) as checkpoints:
        checkpoints.put(bench.leave(3, "video-1.mp4"))
        checkpoints.settle(PATIENCE_S)
    (stored,) = bench.record.pointed
    assert (stored.item, stored.step, stored.steps) == (1, 3, 9)
    assert [path.name for path in bench.directory.iterdir()] == ["video-1.mp4"], "the rest is gone"

    target = tmp_path / "next"
    target.mkdir()
    fetch(stored, target, bench.read)

    assert {path.name: path.read_text() for path in target.iterdir()} == {
        f"{RESUME}.safetensors": "checkpoint-3.safetensors of 1-aa",
        f"{RESUME}.json": "checkpoint-3.json of 1-aa",
        "video-1.mp4": "video-1.mp4 of 1-aa",
    }


def test_only_the_newest_waits_for_a_slow_storage_and_an_output_goes_up_once(
    bench: Bench,
) -> None:
    bench.artifacts.let.clear()
    with closing(bench.checkpoints) as checkpoints:
        checkpoints.put(bench.leave(1, "video-1.mp4"))
        for number in (2, 3, 4):
            checkpoints.put(bench.leave(number, "video-1.mp4"))
        bench.artifacts.let.set()
        checkpoints.settle(PATIENCE_S)

    assert bench.record.pointed[-1].name == "checkpoint-4"
    assert len(bench.record.pointed) <= 2
    assert sum(key.endswith("video-1.mp4") for key in bench.artifacts.keys) == 1
    assert {path.name for path in bench.directory.iterdir()} == {"video-1.mp4"}


def test_a_storage_that_is_away_costs_a_checkpoint_and_not_the_next(bench: Bench) -> None:
    bench.artifacts.away = True
    with closing(bench.checkpoints) as checkpoints:
        checkpoints.put(bench.leave(1))
        checkpoints.settle(PATIENCE_S)
        assert not bench.record.pointed
        bench.artifacts.away = False
        checkpoints.put(bench.leave(2))
        checkpoints.settle(PATIENCE_S)

    assert [stored.name for stored in bench.record.pointed] == ["checkpoint-2"]


def test_an_attempt_that_goes_on_stores_no_finished_output_again(
    bench: Bench, tmp_path: Path
) -> None:
    with closing(bench.checkpoints) as checkpoints:
        checkpoints.put(bench.leave(3, "video-1.mp4"))
        checkpoints.settle(PATIENCE_S)
    (before,) = bench.record.pointed
    second = tmp_path / "second"
    second.mkdir()
    job = bench.job.model_copy(update={"fence": "2-bb", "checkpoint": before})
    again = Bench(second, job)
    with closing(again.checkpoints) as checkpoints:
        checkpoints.put(again.leave(1, "video-1.mp4"))
        checkpoints.settle(PATIENCE_S)
        assert before.files[2] in again.record.pointed[0].files
        checkpoints.begin_anew()
        checkpoints.put(again.leave(2, "video-1.mp4"))
        checkpoints.settle(PATIENCE_S)

    assert before.files[2] not in again.record.pointed[1].files, "it was made anew"


def test_what_is_gone_or_another_is_not_resumed_from(bench: Bench, tmp_path: Path) -> None:
    with closing(bench.checkpoints) as checkpoints:
        checkpoints.put(bench.leave(1))
        checkpoints.settle(PATIENCE_S)
    (stored,) = bench.record.pointed
    target = tmp_path / "next"
    target.mkdir()
    other = tmp_path / "other"
    other.write_text("checkpoint-1.safetensors of 1-xx")
    bench.artifacts.put(stored.files[0].key, other, "")
    with pytest.raises(Damaged, match=r"checkpoint-1\.safetensors"):
        fetch(stored, target, bench.read)
    bench.artifacts.delete_prefix(f"jobs/{stored.folder}")
    with pytest.raises(NotFound):
        fetch(stored, target, bench.read)


def test_closing_drops_what_is_not_begun_and_twice_is_nothing(bench: Bench) -> None:
    bench.checkpoints.close()
    bench.checkpoints.close()
    bench.checkpoints.settle(PATIENCE_S)
    assert not bench.record.pointed
