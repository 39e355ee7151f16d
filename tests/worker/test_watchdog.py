"""Budgets of steps, on a real server; the gangs are made up."""

from __future__ import annotations

from jobs.steps import StepTimes
from jobs.store import JobStore
from pipeline.gang.protocol import Progress, Ready, Run, RunItem
from pipeline.options import EngineOptions
from tests.jobs import making
from worker.watchdog import FACTOR, FORGET, Watchdog

LEAST_S, UNSEEN_S = 5.0, 1000.0
RUN = Run(run_id="r", directory="/", items=(RunItem(request=making.request(), file="v.mp4"),))


class Bench:
    """A worker whose gang takes as long as one says."""

    def __init__(self, redis_url: str, **options: object) -> None:
        self.times = StepTimes(JobStore.connect(making.settings(redis_url)))
        self.options = EngineOptions.model_validate({"model_path": "m"} | options)
        self.watchdog = self.start()

    def start(self, *, cfg: int = 1) -> Watchdog:
        """A new worker with its first gang."""
        watchdog = Watchdog(self.times, self.options, least_s=LEAST_S, unseen_s=UNSEEN_S)
        watchdog.on_ready(self.ready(cfg))
        return watchdog

    @staticmethod
    def ready(cfg: int = 1) -> Ready:
        return Ready(
            card=making.CARD,
            platform="cpu",
            backend="gloo",
            dtype="float32",
            degrees={"cfg": cfg},
            devices=(),
            load_s=1.0,
        )

    def run(self, step_s: float, *, whole: bool = True, last_s: float | None = 0.1) -> list[float]:
        """Budgets of the start and of two denoising steps, each of which takes `step_s`.

        `last_s`: what the third takes, in two words; None: nobody knows.
        """
        watch = self.watchdog.watch(RUN)
        budgets = [watch.allow(None)]
        for step in range(3):
            watch.waited((0.1, step_s, step_s)[step])
            progress = Progress(run_id="r", item=0, stage="denoising", step=step, steps=3)
            budgets.append(watch.allow(progress))
        watch.waited(last_s)
        watch.waited(0.1)
        if whole:
            watch.done()
        return budgets[:-1]


def test_what_was_never_seen_has_the_ceiling_and_then_ten_times_what_it_took(
    redis_url: str,
) -> None:
    bench = Bench(redis_url)
    assert bench.run(2.0) == [UNSEEN_S, UNSEEN_S, UNSEEN_S]
    assert bench.run(2.0) == [LEAST_S, FACTOR * 2.0, FACTOR * 2.0]


def test_another_shape_is_unseen(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.run(2.0)
    larger = RUN.items[0].request.model_copy(update={"num_frames": 33})
    run = RUN.model_copy(update={"items": (RunItem(request=larger, file="v.mp4"),)})
    assert bench.watchdog.watch(run).allow(None) == UNSEEN_S


def test_a_run_that_failed_teaches_nothing(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.run(2.0, whole=False)
    assert bench.run(2.0) == [UNSEEN_S, UNSEEN_S, UNSEEN_S]


def test_a_hiccup_is_forgotten_by_and_by(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.run(20.0)
    bench.run(2.0)
    assert bench.run(2.0)[1] == FACTOR * 20.0 * FORGET


def test_a_step_in_which_this_process_was_stopped_teaches_nothing(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.run(2.0, last_s=None)
    assert bench.run(2.0, last_s=3600.0)[1] == FACTOR * 2.0, "the others were seen whole"
    assert bench.run(2.0)[1] == FACTOR * 3600.1, "of one that took so long all words count"


def test_what_was_learned_outlives_the_worker_but_not_the_kind_of_gang(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.run(2.0)
    bench.watchdog = bench.start()
    assert bench.run(2.0)[1] == FACTOR * 2.0
    bench.watchdog = bench.start(cfg=2)
    assert bench.run(2.0)[1] == UNSEEN_S


def test_a_new_gang_may_compile_once_more(redis_url: str) -> None:
    bench = Bench(redis_url, enable_torch_compile=True)
    bench.run(2.0)
    assert bench.run(2.0)[1] == FACTOR * 2.0
    bench.watchdog.on_ready(bench.ready())
    assert bench.run(2.0)[1:] == [UNSEEN_S, FACTOR * 2.0]
