"""`rushes bench record`: many jobs through the record alone, with what each costs Redis.

An embedded server as `serve` runs it, no API, no gang: submit all, release and claim and complete all.
Queued, the jobs belong to 100 owners on two priorities, so that the fair order is as deep as it gets.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from jobs.record import Artifact, Job, Usage, new_id
from jobs.relay.board import Board
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import WorkerInfo, Workers
from ops.local import LocalError
from ops.stack.embedded import server_of
from pipeline.request import Request

OWNERS, PRIORITIES = 100, 2
MODEL = "bench"
LEAD_S = 24 * 3600.0
FILES = (
    ("video", "video.mp4", "video/mp4"),
    ("thumbnail", "video.thumbnail.webp", "image/webp"),
    ("spritesheet", "video.spritesheet.jpg", "image/jpeg"),
)
REQUEST = Request(
    model=MODEL, workload="t2v", prompt="a red circle moving right on a black background",
    negative_prompt="", width=832, height=480, num_frames=81, fps=16, num_inference_steps=50,
    guidance_scale=5.0, seed=7,
)  # fmt: skip
USAGE = Usage(
    device_s=2.0, peak_memory_bytes=2**30, timings_s={"denoising": 1.5, "decoding": 0.5},
    started_at=100.0, ended_at=102.0,
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """One run."""

    jobs: int
    queued_bytes: float
    """Of Redis, a waiting job."""
    finished_bytes: float
    """Of Redis, a completed job with three artifacts, until its retention is over."""
    submit_first_ms: float
    """Median of the first thousand, on disk each."""
    submit_last_ms: float
    """Median of the last thousand, all the others waiting."""
    release_ms: float
    """A release from the fair order, all jobs waiting."""
    finish_first_ms: float
    """Release, claim and complete of one job: median of the first thousand."""
    finish_last_ms: float
    """The same of the last thousand."""


def run_record_bench(jobs: int, json_file: Path | None) -> int:
    """Measure and print; the exit code."""
    with tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
        settings = Settings(
            home=Path(folder), max_queued=10**9, log_level="warning", lease_s=LEAD_S
        )
        with server_of(settings) as store:
            figures = _measure(store, jobs)
    table = Table("", "figure")
    for name, value in asdict(figures).items():
        table.add_row(name, f"{value:,.3f}" if name.endswith("_ms") else f"{value:,.0f}")
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    return 0


def _measure(store: JobStore, jobs: int) -> Figures:
    board = Board(store, "bench")
    board.lead(LEAD_S)
    _announce(store)
    empty = _used_bytes(store)
    submits_ms = [_timed(partial(_submit, store, i)) for i in track(range(jobs), "submitting")]
    queued = _used_bytes(store)
    release_ms = _timed(lambda: board.release(MODEL, 1))
    finishes_ms = [_timed(partial(_finish, store, board)) for _ in track(range(jobs), "finishing")]
    finished = _used_bytes(store)
    return Figures(
        jobs=jobs,
        queued_bytes=(queued - empty) / jobs,
        finished_bytes=(finished - empty) / jobs,
        submit_first_ms=statistics.median(submits_ms[:1000]),
        submit_last_ms=statistics.median(submits_ms[-1000:]),
        release_ms=release_ms,
        finish_first_ms=statistics.median(finishes_ms[:1000]),
        finish_last_ms=statistics.median(finishes_ms[-1000:]),
    )


def _announce(store: JobStore) -> None:
    """The worker that claims them all: once, for the lease outlasts the run."""
    Workers(store).announce(
        WorkerInfo(
            id="bench", host="bench", pid=os.getpid(), model=MODEL, names=(MODEL,), state="ready",
            started_at=time.time(),
        )
    )  # fmt: skip


def _submit(store: JobStore, index: int) -> None:
    owner, priority = f"key_{index % OWNERS}", index // OWNERS % PRIORITIES
    store.submit(
        Job(
            id=new_id(), owner=owner, priority=priority, request=REQUEST, created_at=time.time()
        )
    )  # fmt: skip


def _finish(store: JobStore, board: Board) -> None:
    """The next job of the fair order, all the way; one release is under way already."""
    (release,) = board.release(MODEL, 1)
    job = store.claim(release.job_id, release.number, "bench")
    if job is None:
        raise LocalError(f"the claim of {release.job_id} was refused")
    store.gang_free("bench", job.id, job.fence)
    if not store.complete(job.id, job.fence, _artifacts(job), USAGE):
        raise LocalError(f"the end of {release.job_id} was refused")


def _artifacts(job: Job) -> tuple[Artifact, ...]:
    return tuple(
        Artifact(
            kind=kind, key=f"jobs/{job.id}/{job.fence}/{file}", content_type=content_type,
            size_bytes=2**20, sha256="0" * 64, width=832, height=480, num_frames=81, fps=16, seed=7,
        )
        for kind, file, content_type in FILES
    )  # fmt: skip


def _used_bytes(store: JobStore) -> int:
    used: int = store.redis.info("memory")["used_memory"]
    return used


def _timed(act: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)
