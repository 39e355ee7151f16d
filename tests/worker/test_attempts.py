"""Folders of attempts: one a try, none outlives its worker for long."""

from __future__ import annotations

from pathlib import Path

from tests.jobs import making
from worker.attempts import Attempts


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
