"""The record's way to a checkpoint: pointed to under the fence, gone when nobody can need it."""

from __future__ import annotations

from jobs.record import Checkpoint, CheckpointFile, Job, Resumed
from jobs.relay.board import Board
from jobs.store import Hold, JobStore
from tests.jobs import making


def claimed(store: JobStore, board: Board, job: Job) -> Job:
    (release,) = board.release("tiny", 1)
    found = making.claim(store, job.id, release.number)
    assert found is not None
    assert found.id == job.id
    return found


def checkpoint(job: Job, number: int) -> Checkpoint:
    folder = f"{job.id}/checkpoints/{job.fence}-{number}/"
    file = CheckpointFile(key=f"jobs/{folder}c.json", size_bytes=1, sha256="0" * 64)
    return Checkpoint(
        name=f"checkpoint-{number}", item=0, step=number, steps=9, folder=folder, files=(file,)
    )


def due(store: JobStore) -> set[str]:
    """What the sweeper would delete at once."""
    return {str(files) for files in store.scripts("sweep_due", 100)[::2]}


def noted(store: JobStore) -> set[str]:
    return set(map(str, store.redis.zrange("t:sweep", 0, -1)))


def test_the_next_attempt_finds_the_newest_and_the_one_before_is_swept(
    store: JobStore, board: Board
) -> None:
    job = claimed(store, board, store.submit(making.job()))
    first, second = checkpoint(job, 1), checkpoint(job, 2)

    assert store.checkpoint(job.id, job.fence, first)
    assert store.checkpoint(job.id, job.fence, first), "sent twice"
    assert due(store) == set()
    assert store.checkpoint(job.id, job.fence, second)
    assert due(store) == {first.folder}
    store.hand_back(job.id, job.fence)

    again = claimed(store, board, job)
    assert again.checkpoint == second
    assert second.folder not in noted(store)


def test_one_that_comes_too_late_is_refused_and_swept_later(store: JobStore, board: Board) -> None:
    job = claimed(store, board, store.submit(making.job()))
    good, late = checkpoint(job, 1), checkpoint(job, 2)
    store.checkpoint(job.id, job.fence, good)
    store.hand_back(job.id, job.fence)

    assert not store.checkpoint(job.id, job.fence, late)
    assert store.checkpoint(job.id, job.fence, good), "an answer that was lost, asked for again"

    assert store.get(job.id).checkpoint == good
    assert late.folder in noted(store)
    assert late.folder not in due(store), "it may still be on its way"
    assert good.folder not in noted(store)


def test_nothing_is_left_of_them_once_the_job_has_ended(store: JobStore, board: Board) -> None:
    job = claimed(store, board, store.submit(making.job()))
    store.checkpoint(job.id, job.fence, checkpoint(job, 1))

    store.complete(job.id, job.fence, [making.artifact(job.id, job.fence)], making.usage())

    assert store.get(job.id).checkpoint is None
    assert f"{job.id}/checkpoints/" in noted(store)
    store.redis.delete("t:sweep")
    assert not store.checkpoint(job.id, job.fence, checkpoint(job, 2))
    assert noted(store) == {f"{job.id}/checkpoints/"}, "with the outputs that came with it"


def test_what_was_stored_and_never_pointed_to_is_swept_with_the_job(
    store: JobStore, board: Board
) -> None:
    """An attempt whose checkpoint was stored while Redis was away may complete itself (chaos found it)."""
    cut_off = claimed(store, board, store.submit(making.job()))
    store.complete(cut_off.id, cut_off.fence, [], making.usage())
    assert f"{cut_off.id}/checkpoints/" in noted(store)
    never_run = store.submit(making.job()).id
    store.cancel(never_run)
    assert f"{never_run}/checkpoints/" not in noted(store)


def test_a_beat_says_where_the_attempt_went_on_and_the_next_attempt_forgets_it(
    store: JobStore, board: Board
) -> None:
    job = claimed(store, board, store.submit(making.job()))
    resumed = Resumed(item=0, step=5, steps=9)

    assert store.beat(job.id, job.fence, None, resumed) is Hold.HELD
    store.beat(job.id, job.fence)
    assert store.get(job.id).resumed == resumed
    store.hand_back(job.id, job.fence)

    assert claimed(store, board, job).resumed is None


def test_an_attempt_that_did_part_of_the_work_teaches_nothing(
    store: JobStore, board: Board
) -> None:
    for resumed in (Resumed(item=0, step=5, steps=9), None):
        job = claimed(store, board, store.submit(making.job()))
        store.beat(job.id, job.fence, None, resumed)
        store.complete(job.id, job.fence, [], making.usage())
        assert store.redis.exists("t:costs:tiny") == (resumed is None)
