"""Runs of a gang that stays warm: news, cancels, refusals, memory that runs out."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipeline.gang.protocol import Done, Failed, News, Run, RunItem
from tests.fixtures.gangs import Warm, ignore, once, progress


def test_a_run_reports_its_steps_and_ends_with_its_file(warm: Warm, tmp_path: Path) -> None:
    seen: list[News] = []

    done = warm.get().run(warm.run(tmp_path, num_inference_steps=3), seen.append)

    assert isinstance(done, Done)
    (result,) = done.results
    assert (tmp_path / result.file).stat().st_size == result.size_bytes > 0
    assert (result.num_frames, result.width, result.height, result.seed) == (9, 64, 64, 1)
    steps = [(p.step, p.steps) for p in progress(seen) if p.stage == "denoising" and p.step]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert done.started_at < done.ended_at
    assert done.peak_memory_bytes > 0


def test_items_of_one_run_are_made_one_after_the_other(warm: Warm, tmp_path: Path) -> None:
    items = tuple(
        RunItem(request=warm.request(seed=seed, num_inference_steps=1), file=f"{seed}.mp4")
        for seed in (1, 2)
    )
    seen: list[News] = []

    done = warm.get().run(Run(run_id="r", directory=str(tmp_path), items=items), seen.append)

    assert isinstance(done, Done)
    assert [result.seed for result in done.results] == [1, 2]
    assert (tmp_path / "1.mp4").read_bytes() != (tmp_path / "2.mp4").read_bytes()
    items_seen = [p.item for p in progress(seen)]
    assert items_seen == sorted(items_seen)
    assert set(items_seen) == {0, 1}


def test_a_cancelled_run_stops_within_a_step_and_the_gang_stays_warm(
    warm: Warm, tmp_path: Path
) -> None:
    gang = warm.get()
    pids = gang.pids
    run = warm.run(tmp_path, num_inference_steps=50)
    seen: list[News] = []
    cancel = once("denoising", lambda: gang.cancel(run.run_id))

    def on_news(news: News) -> None:
        seen.append(news)
        cancel(news)

    failed = gang.run(run, on_news)

    assert isinstance(failed, Failed)
    assert failed.code == "cancelled"
    last = progress(seen)[-1]
    assert last.stage == "denoising"
    assert last.step < 50
    assert not (tmp_path / "video.mp4").exists()
    assert isinstance(gang.run(warm.run(tmp_path), ignore), Done)
    assert gang.pids == pids


def test_a_cancel_that_comes_late_hits_no_other_run(warm: Warm, tmp_path: Path) -> None:
    gang = warm.get()
    gang.cancel("earlier")

    assert isinstance(gang.run(warm.run(tmp_path), ignore), Done)


def test_what_the_model_refuses_is_said_and_the_gang_lives(warm: Warm, tmp_path: Path) -> None:
    gang = warm.get()
    run = warm.run(tmp_path)
    request = run.items[0].request.model_copy(update={"num_frames": 10})

    failed = gang.run(
        run.model_copy(update={"items": (RunItem(request=request, file="video.mp4"),)}), ignore
    )

    assert isinstance(failed, Failed)
    assert failed.code == "invalid_request"
    assert "num_frames" in failed.message
    assert gang.alive


def test_a_file_that_cannot_be_written_fails_the_run_and_the_gang_lives(
    warm: Warm, tmp_path: Path
) -> None:
    gang = warm.get()
    pids = gang.pids

    failed = gang.run(warm.run(tmp_path / "missing"), ignore)

    assert isinstance(failed, Failed)
    assert failed.code == "error"
    assert not failed.fatal
    assert isinstance(gang.run(warm.run(tmp_path), ignore), Done)
    assert gang.pids == pids


def test_a_callback_that_raises_gives_the_run_up_and_the_gang_stays_warm(
    warm: Warm, tmp_path: Path
) -> None:
    gang = warm.get()

    def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        gang.run(warm.run(tmp_path, num_inference_steps=50), once("denoising", fail))

    assert isinstance(gang.run(warm.run(tmp_path), ignore), Done)


def test_ctrl_c_is_the_parents_to_hear(warm: Warm, tmp_path: Path) -> None:
    gang = warm.get()

    for pid in gang.pids:
        os.kill(pid, signal.SIGINT)

    assert isinstance(gang.run(warm.run(tmp_path), ignore), Done)


def test_memory_that_runs_out_on_one_rank_fails_the_run_and_the_gang_lives(
    warm: Warm, tmp_path: Path
) -> None:
    gang = warm.get()
    pids = gang.pids

    warm.faults.let(1, "memory")
    failed = gang.run(warm.run(tmp_path), ignore)

    assert isinstance(failed, Failed)
    assert (failed.code, failed.fatal) == ("out_of_memory", False)
    assert failed.message.startswith("rank 1: OutOfMemoryError")
    assert "num_frames 5 instead of 9" in failed.message
    assert isinstance(gang.run(warm.run(tmp_path), ignore), Done)
    assert gang.pids == pids
