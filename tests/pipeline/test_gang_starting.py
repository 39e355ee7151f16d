"""A gang's start: ready, refused, given up, dead before it was ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.gang.gang import Gang, GangDied, GangError, GangRefused
from pipeline.gang.protocol import Run
from pipeline.options import EngineOptions
from tests.fixtures.gangs import START_S, Warm, ignore, make
from tests.fixtures.waiting import wait_for


def test_ready_tells_what_runs(warm: Warm) -> None:
    gang = warm.get()

    assert warm.ready is not None
    assert warm.ready.platform == "cpu"
    assert warm.ready.backend == "gloo"
    assert warm.ready.degrees == {"cfg": 1, "ring": 1, "ulysses": 2, "tp": 1}
    assert tuple(device.pid for device in warm.ready.devices) == gang.pids
    assert warm.ready.card.num_frames == 9


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
    options = EngineOptions(model_path=str(tiny_wan), device="cpu", workload_type="i2v")
    gang = Gang(options, num_gpus=1, directory=tmp_path)

    with pytest.raises(GangRefused, match="knows t2v, t2i, not i2v"):
        gang.start(START_S)


def test_what_another_start_may_mend_is_no_refusal(tiny_wan: Path, tmp_path: Path) -> None:
    gang = Gang(
        EngineOptions(model_path=str(tiny_wan), device="xpu"), num_gpus=1, directory=tmp_path
    )

    with pytest.raises(GangError, match="no xpu device is there") as raised:
        gang.start(START_S)

    assert not isinstance(raised.value, GangRefused)
