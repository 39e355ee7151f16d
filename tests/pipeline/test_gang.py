"""Gangs of real rank processes on the tiny model: runs, cancels, deaths, and who outlives whom."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.gang import gang as gang_module
from pipeline.gang.gang import Gang, GangDied, GangError, GangRefused
from pipeline.gang.protocol import Done, Failed, News, Progress, Ready, Run, RunItem
from pipeline.options import EngineOptions
from pipeline.request import Params, Request, resolve
from tests.fixtures.faults import Faults
from tests.fixtures.waiting import wait_for

START_S = 180.0


def make(tiny_wan: Path, directory: Path, env: dict[str, str] | None = None) -> Gang:
    options = EngineOptions(model_path=str(tiny_wan), device="cpu")
    return Gang(options, num_gpus=2, directory=directory, env=env)


class Warm:
    """A gang that tests share; each may have killed it, so each asks for it anew."""

    def __init__(self, gang: Gang, faults: Faults) -> None:
        self.gang = gang
        self.faults = faults
        self.ready: Ready | None = None

    def get(self) -> Gang:
        if not self.gang.alive:
            self.ready = self.gang.start(START_S)
        return self.gang

    def request(self, **params: object) -> Request:
        self.get()
        assert self.ready is not None
        return resolve(
            Params.model_validate({"prompt": "a fox", "seed": 1} | params), self.ready.card
        )

    def run(self, directory: Path, **params: object) -> Run:
        item = RunItem(request=self.request(**params), file="video.mp4")
        return Run(run_id=uuid4().hex, directory=str(directory), items=(item,))


@pytest.fixture(scope="module")
def warm(tiny_wan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    faults = Faults(tmp_path_factory.mktemp("gang") / "faults")
    gang = make(tiny_wan, tmp_path_factory.mktemp("gang"), faults.env)
    yield Warm(gang, faults)
    gang.stop(10)


def ignore(_: News) -> None:
    pass


def progress(seen: list[News]) -> list[Progress]:
    return [news for news in seen if isinstance(news, Progress)]


def once(stage: str, act: Callable[[], None]) -> Callable[[News], None]:
    """Do it at the first step of that stage."""
    done = threading.Event()

    def on_news(news: News) -> None:
        reached = isinstance(news, Progress) and news.stage == stage and news.step >= 1
        if reached and not done.is_set():
            done.set()
            act()

    return on_news


def running(pid: int) -> bool:
    """Whether a process runs; a zombie, which nobody of ours may leave, counts."""
    return Path(f"/proc/{pid}").exists()


def open_files() -> int:
    """How many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_ranks_do_not_advise_to_install_what_they_do_not_need() -> None:
    script = (
        "import logging, transformers\n"
        "from pipeline.gang.rank import set_up_logs\n"
        "set_up_logs(0)\n"
        "transformers.CLIPImageProcessor\n"
        "logging.getLogger('transformers.utils.import_utils').warning('news')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert "torchvision" not in done.stderr
    assert "news" in done.stderr


def test_a_gang_that_was_never_started_is_dead_and_stops(tmp_path: Path) -> None:
    gang = Gang(EngineOptions(model_path="/none"), num_gpus=1, directory=tmp_path)

    assert not gang.alive
    gang.cancel("r")
    gang.kill()
    gang.stop(1)
    gang.stop(1)
    with pytest.raises(GangDied, match="not started"):
        gang.run(Run.model_construct(run_id="r", directory="", items=()), ignore)


def test_ready_tells_what_runs(warm: Warm) -> None:
    gang = warm.get()

    assert warm.ready is not None
    assert warm.ready.platform == "cpu"
    assert warm.ready.backend == "gloo"
    assert warm.ready.degrees == {"cfg": 1, "ring": 1, "ulysses": 2, "tp": 1}
    assert tuple(device.pid for device in warm.ready.devices) == gang.pids
    assert warm.ready.card.num_frames == 9


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


def test_a_kill_from_another_thread_ends_the_run(warm: Warm, tmp_path: Path) -> None:
    gang = warm.get()
    pids = gang.pids
    killer = threading.Thread(target=gang.kill)

    with pytest.raises(GangDied, match="killed by its parent"):
        gang.run(warm.run(tmp_path, num_inference_steps=50), once("denoising", killer.start))

    killer.join()
    assert not any(map(running, pids))


def test_a_rank_that_dies_while_it_loads_is_named(tiny_wan: Path, tmp_path: Path) -> None:
    gang = make(tiny_wan, tmp_path)

    def kill() -> None:
        wait_for(lambda: gang.pids, "the ranks are started")
        os.kill(gang.pids[1], signal.SIGTERM)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(GangError, match="rank 1 was killed by SIGTERM"):
        gang.start(START_S)
    killer.join()


def test_a_start_that_takes_too_long_is_given_up(tiny_wan: Path, tmp_path: Path) -> None:
    gang = make(tiny_wan, tmp_path)

    with pytest.raises(GangError, match=r"not ready within 0\.05 s"):
        gang.start(0.05)

    assert not gang.alive
    assert list(tmp_path.iterdir()) == []


def test_why_a_gang_cannot_start_is_said(tmp_path: Path) -> None:
    options = EngineOptions(model_path=str(tmp_path / "none"), device="cpu")
    gang = Gang(options, num_gpus=1, directory=tmp_path)

    with pytest.raises(GangRefused, match="none is no Diffusers directory"):
        gang.start(START_S)

    assert not gang.alive


def test_options_that_can_never_be_served_are_refused(tiny_wan: Path, tmp_path: Path) -> None:
    options = EngineOptions(model_path=str(tiny_wan), device="cpu", num_gpus=3, tp_size=3)
    gang = Gang(options, num_gpus=3, directory=tmp_path)

    with pytest.raises(GangRefused, match="heads do not divide by tp 3"):
        gang.start(START_S)


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
