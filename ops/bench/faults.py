"""`rushes bench faults`: how soon a cancelled job's gang is free, and a standby relay leads.

1. One `serve`. Running jobs are cancelled at moments spread evenly over a step: from the answer until the
   record says that the gang is free, in seconds and in steps as long as the job's last ten were.
2. An embedded server with two relays. The one that leads gets SIGKILL or SIGTERM by turns: from the
   signal until the other has the lead.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from ops.bench.overhead import PROMPT, START_S, store_of
from ops.local import LocalError, LocalService
from ops.options import to_arguments
from ops.stack.child import bound
from ops.stack.embedded import server_of
from ops.stack.parts import RUSHES
from pipeline.options import EngineOptions

WAIT_S = 120.0
POLL_S = 0.005
STEPS = 40
FIRST, COUNTED = 3, 10


class Relays:
    """Two relay processes on one server: the first leads, the second stands by."""

    def __init__(self, store: JobStore) -> None:
        """Start both; each is bound to this thread."""
        self._store = store
        self._env = os.environ | {
            "RUSHES_HOME": str(store.settings.home),
            "RUSHES_REDIS_URL": str(store.settings.redis_url),
            "RUSHES_LOG_LEVEL": "error",
        }
        self._leader = self._start()
        _until(lambda: self._lead() is not None, "the first relay leads")
        self._standby = self._stand_by()

    def hand_over(self, number: signal.Signals) -> float:
        """Seconds from the signal to the leader until the standby leads; a new one stands by then."""
        before = self._lead()
        began = time.monotonic()
        self._leader.send_signal(number)
        _until(lambda: self._lead() not in {None, before}, "the standby leads")
        took_s = time.monotonic() - began
        self._leader.wait()
        self._leader, self._standby = self._standby, self._stand_by()
        return took_s

    def stop(self) -> None:
        """End both."""
        for process in (self._standby, self._leader):
            process.kill()
            process.wait()

    def _lead(self) -> object:
        return self._store.redis.get(self._store.key("lead"))

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(bound([*RUSHES, "relay"]), env=self._env)

    def _stand_by(self) -> subprocess.Popen[bytes]:
        """A relay that has asked for the lead in vain."""
        known = {client["addr"] for client in self._clients()}
        process = self._start()

        def asked() -> bool:
            new = [client for client in self._clients() if client["addr"] not in known]
            return any(client["cmd"] == "evalsha" for client in new)

        _until(asked, "the second relay stands by")
        return process

    def _clients(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._store.redis.client_list()
        return found


def run_faults_bench(options: EngineOptions, times: int, json_file: Path | None) -> int:
    """Measure and print; the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
            figures = _cancels(options, Path(folder), times)
        with tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
            figures |= _hand_overs(Path(folder), times)
    except LocalError as error:
        print(f"rushes: {error}", file=sys.stderr)
        return 1
    report(figures, json_file)
    return 0


def report(figures: dict[str, list[float]], json_file: Path | None) -> None:
    """Print the table, and write every figure to `json_file`."""
    load = os.getloadavg()[0]
    table = Table("", "median", "least", "most", title=f"load average {load:.1f}")
    for name, values in figures.items():
        row = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{figure:.2f}" for figure in row))
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps({"load": load, "figures": figures}, indent=2) + "\n")


def _cancels(options: EngineOptions, home: Path, times: int) -> dict[str, list[float]]:
    with LocalService(home, to_arguments(options)) as service:
        service.wait_ready(START_S)
        store = store_of(home)
        with httpx.Client(base_url=service.url, timeout=30.0) as client:
            warm = _post(client)
            _until(lambda: store.get(warm).usage is not None, "the first job completes")
            found = [_cancel(client, store, (index + 0.5) / times) for index in range(times)]
    return {
        "cancel answered to gang free, s": [free_s for free_s, _ in found],
        "a step before it, s": [step_s for _, step_s in found],
        "cancel answered to gang free, steps": [free_s / step_s for free_s, step_s in found],
    }


def _cancel(client: httpx.Client, store: JobStore, share: float) -> tuple[float, float]:
    """Seconds until the gang of a running job is free, and of the job's steps before the cancel.

    It is cancelled when `share` of a step has passed since one was reported.
    """
    job_id, workers = _post(client), Workers(store)

    def step() -> int:
        at = store.get(job_id).progress
        return at.step if at is not None and at.stage == "denoising" else 0

    _until(lambda: step() >= FIRST, "the job runs")
    first, seen_at = step(), time.monotonic()
    _until(lambda: step() >= first + COUNTED, "it goes on")
    step_s = (time.monotonic() - seen_at) / (step() - first)
    time.sleep(share * step_s)
    client.post(f"/v1/videos/{job_id}/cancel").raise_for_status()
    answered_at = time.monotonic()
    _until(lambda: any(worker.free for worker in workers.live()), "the gang is free")
    free_s = time.monotonic() - answered_at
    if store.get(job_id).usage is not None:
        raise LocalError(f"{job_id} completed before it was cancelled")
    return free_s, step_s


def _post(client: httpx.Client) -> str:
    body = {"prompt": PROMPT, "seed": 1, "num_inference_steps": STEPS}
    return str(client.post("/v1/videos", json=body).raise_for_status().json()["id"])


def _hand_overs(home: Path, times: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"SIGKILL": [], "SIGTERM": []}
    with relays(home) as pair:
        for _ in range(times):
            for name, values in found.items():
                values.append(pair.hand_over(signal.Signals[name]))
    return {f"{name} of the relay to the standby leads, s": found[name] for name in found}


@contextmanager
def relays(home: Path) -> Iterator[Relays]:
    """Two relays on a server of their own."""
    with server_of(Settings(home=home, log_level="error")) as store:
        pair = Relays(store)
        try:
            yield pair
        finally:
            pair.stop()


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise LocalError(f"not within {WAIT_S:g} s: {what}")
        time.sleep(POLL_S)
