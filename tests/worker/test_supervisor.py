"""The gang's keeper, where the gang does not come up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.steps import StepTimes
from jobs.store import JobStore
from jobs.workers import Workers
from pipeline.gang.gang import Gang, GangError
from pipeline.gang.protocol import Ready, Run
from pipeline.options import Device, EngineOptions
from tests.fixtures.waiting import wait_for
from tests.jobs import making
from worker.presence import Presence
from worker.supervisor import Supervisor
from worker.watchdog import Watchdog


class Deviceless(Gang):
    """Cannot start now; another start might."""

    starts = 0

    def start(self, timeout_s: float) -> Ready:
        self.starts += 1
        raise GangError("no xpu device is there")


class Bench:
    """A supervisor of a gang that cannot start."""

    def __init__(
        self, redis_url: str, directory: Path, device: Device, kind: type[Gang] = Gang
    ) -> None:
        options = EngineOptions(model_path=str(directory / "none"), device=device)
        store = JobStore.connect(making.settings(redis_url))
        workers = Workers(store)
        watchdog = Watchdog(StepTimes(store), options, least_s=60, unseen_s=60)
        self.gang = kind(options, num_gpus=1, directory=directory)
        self.presence = Presence(workers, options, slots=2)
        self.refused = threading.Event()
        self.supervisor = Supervisor(
            self.gang, self.presence, watchdog, start_s=60, stop_s=2, on_refused=self.refused.set
        )


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(redis_url, tmp_path, "xpu")
    bench.supervisor.start()
    yield bench
    bench.supervisor.stop()


def test_a_gang_that_cannot_start_makes_its_worker_unhealthy(
    redis_url: str, tmp_path: Path
) -> None:
    bench = Bench(redis_url, tmp_path, "xpu", Deviceless)
    gang = bench.gang
    assert isinstance(gang, Deviceless)
    bench.supervisor.start()
    wait_for(lambda: bench.presence.state == "unhealthy", "it says so")
    wait_for(lambda: gang.starts > 1, "it is tried again")
    bench.supervisor.stop()
    assert not bench.refused.is_set()


def test_a_model_that_can_never_be_served_is_refused_and_not_tried_again(
    redis_url: str, tmp_path: Path
) -> None:
    bench = Bench(redis_url, tmp_path, "cpu")
    bench.supervisor.start()
    assert bench.refused.wait(60)
    bench.supervisor.stop()

    assert "none is no Diffusers directory" in bench.supervisor.refusal
    assert bench.presence.state == "unhealthy"
    assert not bench.gang.alive


def test_while_it_loads_work_waits_and_can_be_dropped_and_a_stop_is_quick(bench: Bench) -> None:
    wait_for(lambda: bench.gang.pids, "it loads")
    run = Run.model_construct(type="run", run_id="r", directory="", items=())
    work = bench.supervisor.submit(run, lambda _: None)

    bench.supervisor.kill(work)
    assert not work.outcome.done()
    bench.supervisor.cancel(work)
    assert work.outcome.cancelled()

    began = time.monotonic()
    bench.supervisor.stop()
    bench.supervisor.stop()
    assert time.monotonic() - began < 5
    assert not bench.gang.alive
    assert bench.presence.state == "starting"
