"""`rushes bench checkpoints`: what they cost a step, and how a killed gang's run goes on.

One gang, runs with and without checkpoints by turns, so that both see the same machine. Then its last
rank is killed behind a checkpoint: the time until the new gang has done the first step behind it.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path

from pipeline.gang.gang import Gang, GangDied, GangError
from pipeline.gang.protocol import Checkpoint, Failed, News, Progress, Run, RunItem
from pipeline.options import EngineOptions
from pipeline.request import Params, resolve

START_S = 900.0
STOP_S = 5.0
PROMPT = "a red circle moving right on a black background"


class Bench:
    """A gang and the runs that it is given."""

    def __init__(self, options: EngineOptions, home: Path) -> None:
        """Start the gang."""
        self._home = home
        self.gang = Gang(options, num_gpus=options.num_gpus or 1, directory=home)
        self.card = self.gang.start(START_S).card
        self.heard: list[tuple[float, News]] = []

    def run(self, *, checkpoint_steps: int, kill_after: int = 0, resume: str = "") -> float:
        """Seconds a denoising step took; `kill_after` so many checkpoints the last rank is killed."""
        directory = self._home / "run"
        directory.mkdir(exist_ok=True)
        item = RunItem(request=resolve(Params(prompt=PROMPT, seed=1), self.card), file="clip.mp4")
        run = Run(
            run_id=str(time.monotonic_ns()),
            directory=str(directory),
            items=(item,),
            checkpoint_steps=checkpoint_steps,
            resume=resume,
        )
        self.heard = []

        def on_news(news: News) -> None:
            self.heard.append((time.monotonic(), news))
            if len(self.checkpoints) == kill_after > 0:
                os.kill(self.gang.pids[-1], signal.SIGKILL)

        done = self.gang.run(run, on_news)
        if isinstance(done, Failed):
            raise GangError(done.message)
        shutil.rmtree(directory)
        return done.results[0].timings_s["denoising"] / item.request.num_inference_steps

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Those of the last run."""
        return [news for _, news in self.heard if isinstance(news, Checkpoint)]

    def first_step(self) -> tuple[float, int]:
        """When the last run had its first step done, by `time.monotonic`, and which it was."""
        steps = [
            (at, n.step)
            for at, n in self.heard
            if isinstance(n, Progress) and n.stage == "denoising"
        ]
        return steps[1]


def run_checkpoint_bench(options: EngineOptions, pairs: int, every: int) -> int:
    """Measure and print; the exit code."""
    with tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
        bench = Bench(options, Path(folder))
        try:
            bench.run(checkpoint_steps=0)
            without, with_them = [], []
            for _ in range(pairs):
                without.append(bench.run(checkpoint_steps=0))
                with_them.append(bench.run(checkpoint_steps=every))
            _report(without, with_them, every)
            _kill(bench, every)
        finally:
            bench.gang.stop(STOP_S)
    return 0


def _report(without: list[float], with_them: list[float], every: int) -> None:
    rows = (("without", without), (f"every {every} steps", with_them))
    for name, seconds in rows:
        middle, least = (1000 * of(seconds) for of in (statistics.median, min))
        print(f"{name:>16}: {middle:8.1f} ms a step in the median, {least:8.1f} at least")
    ratios = [b / a - 1 for a, b in zip(without, with_them, strict=True)]
    print(f"{'cost':>16}: {statistics.median(ratios):+.2%} in the median of {len(ratios)} pairs")


def _kill(bench: Bench, every: int) -> None:
    began = time.monotonic()
    try:
        bench.run(checkpoint_steps=every, kill_after=2)
    except GangDied:
        began = time.monotonic()
    kept = bench.checkpoints[-1]
    reached = max(n.step for _, n in bench.heard if isinstance(n, Progress))
    bench.gang.start(START_S)
    bench.run(checkpoint_steps=0, resume=kept.name)
    at, step = bench.first_step()
    print(
        f"a rank killed behind step {reached}: the new gang's first was step {step}, "
        f"{at - began:.1f} s after its death was seen"
    )
