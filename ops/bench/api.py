"""`rushes bench api`: what the API accepts and answers, beside what bounds it.

One Redis server as `serve` runs it (every answered write on disk) and the API as it ships, with a key,
a rate and quotas on. Rounds alternate, so that a noisy machine is noisy for both sides:

1. jobs accepted over HTTP, against a bare `send_task` loop on the same server;
2. `GET /v1/videos/{id}` for 500 clients that never pause, against a view that does nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from jobs.celery_app import TASK, make_celery, queue_name
from jobs.keys import Keys, Rights
from jobs.record import new_id
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import WorkerInfo, Workers
from ops.bench.load import load, request_bytes
from ops.local import LocalError
from ops.roles import API
from ops.stack.child import bound
from ops.stack.embedded import server_of
from ops.stack.ports import LOOPBACK, free_port
from pipeline.limits import ModelCard

POSTING, POLLING = 64, 500
START_S = 30.0
BODY = json.dumps({"prompt": "a red circle moving right on a black background", "seed": 7}).encode()
CARD = ModelCard(
    name="bench", family="wan", workloads=("t2v",), width=832, height=480, num_frames=81, fps=16,
    num_inference_steps=50, guidance_scale=5.0, max_width=1280, max_height=1280, max_num_frames=121,
)  # fmt: skip


def run_api_bench(seconds: float, rounds: int, json_file: Path | None) -> int:
    """Measure and print; the exit code."""
    with tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
        settings = Settings(
            home=Path(folder), port=free_port(), max_queued=10**9, log_level="warning"
        )
        with server_of(settings) as store, _api(store.settings):
            rates = _measure(store, settings.port, seconds, rounds)
    _report(rates, json_file)
    return 0


def _measure(store: JobStore, port: int, seconds: float, rounds: int) -> dict[str, list[float]]:
    _announce(store)
    rights = Rights(rate="1000000/second", max_queued=10**9, daily_device_s=1e12)
    _, key = Keys(store).create("bench", rights)
    time.sleep(1.1)  # until the API's look at whether there are keys is over
    first = httpx.post(
        f"http://{LOOPBACK}:{port}/v1/videos",
        content=BODY,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    job_id = first.raise_for_status().json()["id"]

    def over_http(method: str, path: str, connections: int, body: bytes = b"") -> float:
        request = request_bytes(method, path, key, body)
        answers = load(LOOPBACK, port, request, connections=connections, seconds=seconds)
        if set(answers) != {200}:
            raise LocalError(f"{method} {path} answered {dict(answers)}")
        return answers[200] / seconds

    sides: dict[str, Callable[[], float]] = {
        "send_task, bare": lambda: _send_tasks(store, seconds),
        "POST /v1/videos": lambda: over_http("POST", "/v1/videos", POSTING, BODY),
        "GET /livez, no-op": lambda: over_http("GET", "/livez", POLLING),
        "GET /v1/videos/{id}": lambda: over_http("GET", f"/v1/videos/{job_id}", POLLING),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            rates[name].append(side())
    return rates


def _send_tasks(store: JobStore, seconds: float) -> float:
    app = make_celery(store.settings)
    queue = queue_name(CARD.name)
    app.send_task(TASK, args=(new_id(), 1), queue=queue)  # connects
    count, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        job_id = new_id()
        app.send_task(TASK, args=(job_id, 1), task_id=job_id, queue=queue)
        count += 1
    return count / seconds


def _announce(store: JobStore) -> None:
    """A model whose gangs are away: jobs are accepted and wait."""
    Workers(store).announce(
        WorkerInfo(
            id="bench", host="bench", pid=os.getpid(), model=CARD.name, names=(CARD.name,),
            state="ready", card=CARD, started_at=time.time(),
        )
    )  # fmt: skip


@contextmanager
def _api(settings: Settings) -> Iterator[None]:
    env = os.environ | {
        "RUSHES_HOME": str(settings.home),
        "RUSHES_HOST": settings.host,
        "RUSHES_PORT": str(settings.port),
        "RUSHES_REDIS_URL": str(settings.redis_url),
        "RUSHES_MAX_QUEUED": str(settings.max_queued),
        "RUSHES_LOG_LEVEL": settings.log_level,
    }
    process = subprocess.Popen(bound(list(API)), env=env)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(settings.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LocalError("the API does not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/livez").is_success
    except httpx.TransportError:
        return False


def _report(rates: dict[str, list[float]], json_file: Path | None) -> None:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    task, post, noop, get = medians.values()
    table = Table("a second", "median", "least", "most", "share")
    shares = ("", f"{post / task:.2f} of send_task", "", f"{get / noop:.2f} of the no-op")
    for (name, values), share in zip(rates.items(), shares, strict=True):
        figures = (medians[name], min(values), max(values))
        table.add_row(name, *(f"{figure:.0f}" for figure in figures), share)
    Console().print(table)
    if json_file is not None:
        report = {"accept_share": post / task, "get_share": get / noop, "a_second": rates}
        json_file.write_text(json.dumps(report, indent=2) + "\n")
