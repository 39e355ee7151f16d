"""The API as it ships: a process of its own, and somebody who finishes its jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from pydantic import SecretStr

from jobs.artifacts import ArtifactStore
from jobs.record import JobError
from jobs.relay.board import Board
from jobs.settings import Settings
from jobs.store import JobStore
from tests.api.worker import conclude
from tests.fixtures.waiting import wait_for


class Server:
    """One API process."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.url = f"http://127.0.0.1:{settings.port}"
        self._log = log
        given = {name: getattr(settings, name) for name in settings.model_fields_set}
        environment = os.environ | {
            f"RUSHES_{name.upper()}": str(
                value.get_secret_value() if isinstance(value, SecretStr) else value
            )
            for name, value in given.items()
        }
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "api"],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/livez").status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def serving(settings: Settings, log: Path) -> Iterator[Server]:
    """The API while open, killed with all its processes."""
    server = Server(settings, log)
    try:
        wait_for(server.alive, "the API answers")
        yield server
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@contextmanager
def gang_at_work(
    store: JobStore, artifacts: ArtifactStore, files: dict[str, Path]
) -> Iterator[None]:
    """Finishes every job at once with `files[kind]`; one whose prompt says so fails."""
    stop = threading.Event()
    board = Board(store, "test")

    def work() -> None:
        while not stop.wait(0.01):
            assert board.lead(60)
            for release in board.release("tiny", 1):
                job = store.claim(release.job_id, release.number, "worker-1")
                if job is None:
                    continue  # cancelled in between, or the worker was drained
                if "fail" in job.request.prompt:
                    store.fail(job.id, job.fence, JobError(code="error", message="as told"))
                    store.gang_free("worker-1", job.id, job.fence)
                else:
                    conclude(store, artifacts, job, files[job.kind], kind=job.kind)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
