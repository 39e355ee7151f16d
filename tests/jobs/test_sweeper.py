from __future__ import annotations

from pathlib import Path

import pytest

from jobs.artifacts import ArtifactStore, open_artifacts
from jobs.errors import NotFound, StorageUnavailable
from jobs.relay.board import Board
from jobs.relay.sweeper import Sweeper
from jobs.store import JobStore
from jobs.workers import Workers
from tests.jobs import making


def stored(artifacts: ArtifactStore, folder: Path, key: str) -> str:
    file = folder / "file"
    file.write_bytes(b"video")
    artifacts.put(key, file, "video/mp4")
    return key


def there(artifacts: ArtifactStore, key: str) -> bool:
    try:
        return artifacts.size(key) > 0
    except NotFound:
        return False


def test_files_of_ended_attempts_go_and_committed_ones_stay(
    store: JobStore, board: Board, workers: Workers, tmp_path: Path
) -> None:
    artifacts = open_artifacts(making.settings("redis://none", home=tmp_path / "home"))
    sweeper = Sweeper(board, workers, artifacts, lambda: True)
    job = store.submit(making.job())
    keys = []
    for end in ("hand_back", "complete"):
        (release,) = board.release("tiny", 1)
        claimed = making.claim(store, job.id, release.number)
        assert claimed is not None
        keys.append(stored(artifacts, tmp_path, f"jobs/{job.id}/{claimed.fence}/video.mp4"))
        if end == "hand_back":
            store.hand_back(job.id, claimed.fence)
        else:
            store.complete(job.id, claimed.fence, [], making.usage())
    sweeper.sweep()
    assert [there(artifacts, key) for key in keys] == [True, True], "not due yet"
    noted = store.redis.zrange("t:sweep", 0, -1)
    assert f"{job.id}/checkpoints/" in noted, "a worker that died may have left some"
    store.redis.zadd("t:sweep", dict.fromkeys(map(str, noted), 1.0))
    sweeper.sweep()
    assert [there(artifacts, key) for key in keys] == [False, True]
    store.delete(job.id)
    sweeper.sweep()
    assert [there(artifacts, key) for key in keys] == [False, False]
    assert store.redis.zcard("t:sweep") == 0


@pytest.mark.parametrize("taken", ["delete", "cancel", "lose"])
def test_what_a_fenced_out_worker_stores_late_goes_too(
    store: JobStore, board: Board, workers: Workers, tmp_path: Path, taken: str
) -> None:
    artifacts = open_artifacts(making.settings("redis://none", home=tmp_path / "home"))
    sweeper = Sweeper(board, workers, artifacts, lambda: True)

    def sweep_all() -> None:
        for files in store.redis.zrange("t:sweep", 0, -1):
            store.redis.zadd("t:sweep", {str(files): 1.0})
        sweeper.sweep()

    job = store.submit(making.job())
    (release,) = board.release("tiny", 1)
    claimed = making.claim(store, job.id, release.number)
    assert claimed is not None
    if taken == "lose":
        (running,) = board.running()
        board.lose(running)
    else:
        getattr(store, taken)(job.id)
    sweep_all()
    late = stored(artifacts, tmp_path, f"jobs/{job.id}/{claimed.fence}/video.mp4")
    store.gang_free("w1", job.id, claimed.fence)
    sweep_all()
    assert not there(artifacts, late)


def test_a_gang_that_is_free_late_leaves_what_its_job_was_completed_with(
    store: JobStore, board: Board
) -> None:
    job = store.submit(making.job())
    (release,) = board.release("tiny", 1)
    claimed = making.claim(store, job.id, release.number)
    assert claimed is not None
    store.complete(job.id, claimed.fence, [], making.usage())
    store.gang_free("w1", job.id, claimed.fence)
    assert store.redis.zscore("t:sweep", f"{job.id}/{claimed.fence}/") is None


def test_a_store_that_does_not_answer_is_asked_again(
    store: JobStore, board: Board, workers: Workers, tmp_path: Path
) -> None:
    class Broken:
        asked = 0

        def delete_prefix(self, prefix: str) -> int:
            self.asked += 1
            if self.asked == 1:
                raise StorageUnavailable("no answer")
            return 1

    broken = Broken()
    sweeper = Sweeper(board, workers, broken, lambda: True)  # type: ignore[arg-type]
    job = store.submit(making.job())
    store.delete(job.id)
    sweeper.sweep()
    assert store.redis.zcard("t:sweep") == 1
    sweeper.sweep()
    assert broken.asked == 1, "the others first"
    store.redis.zadd("t:sweep", {f"{job.id}/": 1.0})
    sweeper.sweep()
    assert store.redis.zcard("t:sweep") == 0


def test_traces_of_dead_workers_go_unless_their_job_still_runs(
    store: JobStore, board: Board, workers: Workers, tmp_path: Path
) -> None:
    sweeper = Sweeper(board, workers, open_artifacts(making.settings("x", home=tmp_path)), bool)
    job = store.submit(making.job())
    workers.announce(making.worker("w1"))
    (release,) = board.release("tiny", 1)
    claimed = making.claim(store, job.id, release.number)
    assert claimed is not None
    store.redis.delete("t:worker:w1")
    sweeper.sweep()
    assert store.redis.hget("t:gangs", "w1") == f"{job.id}/{claimed.fence}"
    (running,) = board.running()
    board.lose(running)
    sweeper.sweep()
    assert [store.redis.exists(f"t:{key}") for key in ("gangs", "held:w1", "workers")] == [0, 0, 0]
