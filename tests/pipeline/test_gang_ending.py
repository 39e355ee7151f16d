"""A gang's end: asked to leave, killed, a rank dead or silent; and who outlives whom."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.gang import gang as gang_module
from pipeline.gang.gang import GangDied
from pipeline.gang.protocol import Failed, Progress
from tests.fixtures.gangs import START_S, Warm, ignore, once, running
from tests.fixtures.waiting import wait_for


def open_files() -> int:
    """How many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_gang_leaves_in_order_and_leaves_nothing_behind(warm: Warm, tmp_path: Path) -> None:
    gang = warm.get()
    pids, descriptors = gang.pids, open_files()

    gang.stop(10)

    assert not any(map(running, pids))
    assert open_files() < descriptors
    assert not gang.alive
    gang.stop(10)


def test_a_killed_rank_is_seen_at_once_and_takes_the_gang_with_it(
    warm: Warm, tmp_path: Path
) -> None:
    gang = warm.get()
    run = warm.run(tmp_path, num_inference_steps=50)
    pids = gang.pids
    killed_at: list[float] = []

    def kill() -> None:
        killed_at.append(time.monotonic())
        os.kill(pids[1], signal.SIGKILL)

    with pytest.raises(GangDied, match="rank 1 was killed by SIGKILL"):
        gang.run(run, once("denoising", kill))

    assert time.monotonic() - killed_at[0] < 10
    assert not gang.alive
    wait_for(lambda: not any(map(running, pids)), "the ranks are gone and reaped")
    with pytest.raises(GangDied, match="rank 1"):
        gang.run(run, ignore)


def test_where_nobody_knows_what_the_others_wait_for_it_costs_the_gang(
    warm: Warm, tmp_path: Path
) -> None:
    gang = warm.get()
    pids = gang.pids

    warm.faults.let(1, "blind memory")
    failed = gang.run(warm.run(tmp_path), ignore)

    assert isinstance(failed, Failed)
    assert (failed.code, failed.fatal) == ("out_of_memory", True)
    assert failed.message.startswith("rank 1: OutOfMemoryError")
    assert "num_frames 5 instead of 9" in failed.message
    assert not gang.alive
    assert not any(map(running, pids))


def test_a_rank_that_hangs_and_those_who_wait_for_it_are_killed_when_patience_ends(
    warm: Warm, tmp_path: Path
) -> None:
    gang = warm.get()
    pids = gang.pids
    stop = once("denoising", lambda: os.kill(pids[1], signal.SIGSTOP))
    stopped_at: list[float] = []

    class TwoSeconds:
        def allow(self, last: Progress | None) -> float:
            if last is None or last.stage != "denoising" or not last.step:
                return START_S
            stopped_at.append(time.monotonic())
            return 2.5

        def waited(self, seconds: float | None) -> None:
            pass

    with pytest.raises(GangDied, match=r"no word for 2 s after denoising \d+ of 50"):
        gang.run(warm.run(tmp_path, num_inference_steps=50), stop, TwoSeconds())

    assert time.monotonic() - stopped_at[-1] >= 2.5
    assert not any(map(running, pids))


def test_a_kill_from_another_thread_ends_the_run(warm: Warm, tmp_path: Path) -> None:
    gang = warm.get()
    pids = gang.pids
    killer = threading.Thread(target=gang.kill)

    with pytest.raises(GangDied, match="killed by its parent"):
        gang.run(warm.run(tmp_path, num_inference_steps=50), once("denoising", killer.start))

    killer.join()
    assert not any(map(running, pids))


PARENT = """
import sys, time
from pathlib import Path
from pipeline.gang.gang import Gang
from pipeline.options import EngineOptions

gang = Gang(EngineOptions(model_path=sys.argv[1], device="cpu"), num_gpus=2, directory=Path(sys.argv[2]))
gang.start(60)
print(*gang.pids, flush=True)
time.sleep(600)
"""


def test_no_rank_outlives_a_parent_that_was_killed(tiny_wan: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tiny_wan), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        # A rank that is stopped can run no Python: only the kernel's signal ends it.
        os.kill(pids[1], signal.SIGSTOP)
        parent.kill()

    wait_for(lambda: not any(map(running, pids)), "the ranks are gone")


class Frozen:
    """An inbox whose reader was stopped for an hour in its third wait; then there is a message."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits = 0

    def monotonic(self) -> float:
        return self.now

    def get(self, timeout: float) -> str:
        self.waits += 1
        if self.waits > 5:
            return "a word"
        self.now += 3600.0 if self.waits == 3 else timeout
        raise queue.Empty


def test_time_in_which_the_parent_was_stopped_is_no_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = Frozen()
    monkeypatch.setattr(gang_module, "time", frozen)
    assert gang_module._listen(frozen, 3.0) == ("a word", None)  # type: ignore[arg-type, comparison-overlap]

    frozen.waits = 3
    assert gang_module._listen(frozen, 2.0) == (None, 2.0)  # type: ignore[arg-type]


class Learning:
    """Patience that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[float | None] = []

    def allow(self, last: Progress | None) -> float:
        return 5.0

    def waited(self, seconds: float | None) -> None:
        self.told.append(seconds)


def test_how_long_each_word_took_is_told_but_not_where_the_parent_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A word that came while the parent was stopped is there at once when it goes on."""
    now = [0.0]
    words: list[tuple[float, Progress | Failed]] = [  # and when each is heard
        (0.5, Progress(run_id="r", item=0, stage="denoising", step=1, steps=2)),
        (3600.5, Progress(run_id="r", item=0, stage="denoising", step=2, steps=2)),
        (3601.0, Failed(run_id="r", code="error", message="", fatal=False)),
    ]

    class Inbox:
        @staticmethod
        def get(timeout: float) -> Progress | Failed:
            now[0], word = words.pop(0)
            return word

    class Processes:
        inbox = Inbox

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    monkeypatch.setattr(gang_module, "time", Clock)
    learning = Learning()
    answer = gang_module._answer(Processes, "r", ignore, learning)  # type: ignore[arg-type]

    assert isinstance(answer, Failed)
    assert learning.told == [0.5, None, 0.5]
