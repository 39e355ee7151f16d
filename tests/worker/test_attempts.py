"""Folders of attempts: one a try, none outlives its worker for long."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.jobs import making
from worker.attempts import ROOM_BYTES, Attempts


def test_an_attempt_has_a_folder_of_its_own_while_it_lasts(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, "worker_1")
    job = making.job(fence="1-aa")

    with attempts.directory(job) as directory:
        (directory / "video.mp4").write_bytes(b"x")
        assert directory == tmp_path / "attempts" / "worker_1" / f"{job.id}-1-aa"

    assert not directory.exists()
    attempts.close()
    attempts.close()
    assert list((tmp_path / "attempts").iterdir()) == []


def test_a_new_worker_sweeps_after_dead_ones_and_leaves_the_living_alone(tmp_path: Path) -> None:
    dead = tmp_path / "attempts" / "worker_dead" / "job-1"
    dead.mkdir(parents=True)
    (dead / "video.mp4").write_bytes(b"x")
    living = Attempts(tmp_path, "worker_1")

    newcomer = Attempts(tmp_path, "worker_2")

    assert {path.name for path in (tmp_path / "attempts").iterdir()} == {"worker_1", "worker_2"}
    living.close()
    newcomer.close()


def test_a_probe_writes_as_an_attempt_would_and_leaves_nothing(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, "worker_1")

    attempts.probe()
    assert list(attempts.folder.iterdir()) == []

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES - 1, hard))  # no room, for this process
    try:
        with pytest.raises(OSError, match="File too large"):
            attempts.probe()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    attempts.close()
    with pytest.raises(OSError, match="No such file or directory"):
        attempts.probe()
