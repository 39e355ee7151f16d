"""`rushes bench overhead`: what the service adds to a generation.

One served model, one job at a time, warm. Of each job: POST sent -> rank 0 begins, rank 0 ends ->
the record says completed, and -> a client that asks every few milliseconds knows. The times of
rank 0 are its own (`usage`), the record's are the finishing script's; all clocks are this machine's.
Beside it, in the same run and after the service is gone, the same requests by DiffGenerator.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from jobs.settings import load_settings
from jobs.store import JobStore
from ops.local import LocalError, LocalService
from ops.options import to_arguments
from ops.progress import Shown, shown_progress
from ops.stack.home import running
from pipeline.gang.gang import GangError
from pipeline.generator import DiffGenerator, GenerationError
from pipeline.options import EngineOptions

POLL_S = 0.01
START_S = 900.0
JOB_S = 600.0
WARM = 2
PROMPT = "a red circle moving right on a black background"


@dataclass(frozen=True)
class Sample:
    """One job, milliseconds."""

    to_start: float
    """POST sent -> rank 0 begins."""
    run: float
    """Rank 0's own time."""
    to_completed: float
    """Rank 0 ends -> the record says completed."""
    to_client: float
    """Rank 0 ends -> a polling client knows."""

    @property
    def overhead(self) -> float:
        """What the service added: everything but rank 0's own time."""
        return self.to_start + self.to_completed


def run_overhead(options: EngineOptions, jobs: int, json_file: Path | None) -> int:
    """Measure and print; the exit code."""
    with shown_progress() as shown:
        shown("starting the service")
        try:
            samples = _through_the_service(options, WARM + jobs, shown)
            shown("the generator directly", percent=60)
            direct_ms = _directly(options, WARM + jobs)
        except (LocalError, GangError, GenerationError) as error:
            print(f"rushes: {error}", file=sys.stderr)
            return 1
    report(samples[WARM:], direct_ms[WARM:], json_file)
    return 0


def _through_the_service(options: EngineOptions, jobs: int, shown: Shown) -> list[Sample]:
    samples = []
    with tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
        home = Path(folder)
        with LocalService(home, to_arguments(options)) as service:
            service.wait_ready(START_S)
            store = store_of(home)
            with httpx.Client(base_url=service.url, timeout=30.0) as client:
                for index in range(jobs):
                    shown("jobs over HTTP", percent=60 * index / jobs)
                    samples.append(measure(client, store, seed=index))
    return samples


def store_of(home: Path) -> JobStore:
    """The record itself: its times are finer than the public object's."""
    run = running(home)
    if run is None:
        raise LocalError("rushes serve has not announced itself")
    return JobStore.connect(load_settings(home=home, redis_url=run.redis_url))


def measure(client: httpx.Client, store: JobStore, *, seed: int) -> Sample:
    """Put one job through the service.

    Raises:
        LocalError: it did not complete.
    """
    posted = time.time()
    answer = client.post("/v1/videos", json={"prompt": PROMPT, "seed": seed})
    job_id = answer.raise_for_status().json()["id"]
    status = ""
    while status != "completed":
        if status in {"failed", "cancelled"} or time.time() - posted > JOB_S:
            raise LocalError(f"{job_id} is {status}")
        time.sleep(POLL_S)
        status = client.get(f"/v1/videos/{job_id}").raise_for_status().json()["status"]
    known = time.time()
    job = store.get(job_id)
    if job.usage is None or job.completed_at is None:
        raise LocalError(f"{job_id} is completed without usage")
    return Sample(
        to_start=1000 * (job.usage.started_at - posted),
        run=1000 * (job.usage.ended_at - job.usage.started_at),
        to_completed=1000 * (job.completed_at - job.usage.ended_at),
        to_client=1000 * (known - job.usage.ended_at),
    )


def _directly(options: EngineOptions, jobs: int) -> list[float]:
    """Milliseconds from call to return of each generation."""
    times = []
    with tempfile.TemporaryDirectory() as folder, DiffGenerator(options) as generator:
        for index in range(jobs):
            began = time.perf_counter()
            generator.generate(PROMPT, seed=index, output_path=folder)
            times.append(1000 * (time.perf_counter() - began))
    return times


def report(samples: list[Sample], direct_ms: list[float], json_file: Path | None) -> None:
    """Print the table, and write the figures to `json_file`."""
    rows = {
        "POST to rank 0's start": [sample.to_start for sample in samples],
        "rank 0's own time": [sample.run for sample in samples],
        "rank 0's end to completed": [sample.to_completed for sample in samples],
        "rank 0's end to the client": [sample.to_client for sample in samples],
        "overhead: POST to start + end to completed": [sample.overhead for sample in samples],
        "DiffGenerator called directly": direct_ms,
    }
    table = Table("ms", "median", "least", "most", title=f"{len(samples)} jobs, warm")
    for name, values in rows.items():
        figures = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    Console().print(table)
    if json_file is not None:
        medians = {
            "overhead_median_ms": statistics.median(sample.overhead for sample in samples),
            "to_start_median_ms": statistics.median(sample.to_start for sample in samples),
            "to_completed_median_ms": statistics.median(s.to_completed for s in samples),
            "to_client_median_ms": statistics.median(sample.to_client for sample in samples),
            "run_median_ms": statistics.median(sample.run for sample in samples),
            "direct_median_ms": statistics.median(direct_ms),
        }
        report = {"jobs": len(samples), **medians, "samples": [asdict(s) for s in samples]}
        json_file.write_text(json.dumps(report, indent=2) + "\n")
