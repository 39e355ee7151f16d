"""Counts and histograms, as scripts write and Python reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jobs
from jobs.meter import BOUNDS_S, Meter
from jobs.relay.board import Board
from jobs.store import JobStore
from jobs.workers import Workers
from tests.jobs import making


def test_the_scripts_have_the_same_bounds() -> None:
    prelude = (Path(jobs.__file__).parent / "scripts/prelude.lua").read_text()
    (bounds,) = re.findall(r"BOUNDS_S = \{(.*)\}", prelude)
    assert tuple(float(bound) for bound in bounds.split(",")) == BOUNDS_S


def test_a_histogram_counts_up_to_each_bound_and_what_is_longer(
    store: JobStore, workers: Workers
) -> None:
    for load_s in (0.25, 3.0, 1e6):
        workers.note_start("a model", load_s, again=load_s > 1)

    reading = Meter(store).read()
    ((labels, counts, sum_s),) = reading.histograms("load", 1)
    assert labels == ("a model",)
    at = dict(zip(BOUNDS_S, counts, strict=False))
    assert (at[0.1], at[0.25], at[2.5], at[5], at[14400], counts[-1]) == (0, 1, 1, 2, 2, 3)
    assert sum_s == pytest.approx(1_000_003.25)
    assert reading.of("restarts", 1) == [(("a model",), 2)]


def test_what_a_finished_job_took_is_counted_once(store: JobStore, board: Board) -> None:
    queued = store.submit(making.job())
    (release,) = board.release("tiny", 1)
    job = making.claim(store, queued.id, release.number)
    assert job is not None
    for _ in range(2):
        seconds = {"step": 0.3, "store": 2.0}
        assert store.complete(job.id, job.fence, [], making.usage(), seconds=seconds)

    reading = Meter(store).read()
    for what, expected in (("step", 0.3), ("store", 2.0)):
        ((labels, counts, sum_s),) = reading.histograms(what, 1)
        assert (labels, counts[-1]) == (("tiny",), 1)
        assert sum_s == pytest.approx(expected, abs=0.002)
    stages = {labels[0]: sum_s for labels, _, sum_s in reading.histograms("stage", 2)}
    assert stages == {"denoising": 1.5, "decoding": 0.5}
