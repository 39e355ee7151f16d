"""`rushes worker`: one Celery worker that owns one warm gang.

Threads: main (waits for a signal, then drains), celery (its consumer, with a pool of two task
threads), supervisor (owns the gang), beat, cancels.

Drain, within `drain_s` whatever happens: take nothing more, stop what runs and hand it back, let
uploads finish as long as there is time, stop the gang, say goodbye. Celery's own warm shutdown waits
without bound, so the way out is ours.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

import celery.worker.state
import structlog
from celery import Celery

from jobs.artifacts import open_artifacts
from jobs.celery_app import make_celery, queue_name
from jobs.log import configure
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from pipeline.gang.gang import Gang
from pipeline.gang.placement import plan, probe
from pipeline.options import EngineOptions
from worker.attempts import Attempts
from worker.beat import Beat
from worker.presence import Presence
from worker.supervisor import Supervisor
from worker.task import Worker, register

log = structlog.get_logger()

SLOTS = 2
"""Jobs held at once: one on the gang, one being stored."""


def run_worker(settings: Settings, options: EngineOptions, *, gang_env: Mapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT. Call it on the main thread.

    A task thread that does not come back in time cannot be ended by itself, so then the process
    ends here.

    Args:
        settings: where the store and the artifacts are.
        options: what to serve; `num_gpus` is this one gang's.
        gang_env: added to the ranks' environment.

    Returns:
        The exit code: 0 after a drain, 1 when Celery ended by itself.

    Raises:
        SettingsError: no or a malformed RUSHES_REDIS_URL.
        GangError: `num_gpus` is omitted and the device is not there.
    """
    configure(settings.log_level)
    debug = settings.log_level == "debug"
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s [%(levelname)s] %(name)s: %(message)s",
    )
    wake = _wake_on_signals()
    num_gpus = options.num_gpus or plan(options, probe(options)).gang_size
    worker = _build(settings, options, num_gpus, gang_env)
    app = make_celery(settings)
    register(app, worker)
    worker.supervisor.start()
    worker.beat.start()
    consumer = threading.Thread(
        target=_consume, args=(app, worker, options, wake), name="celery", daemon=True
    )
    consumer.start()
    log.info("worker started", worker=worker.presence.id, model=options.name, num_gpus=num_gpus)

    wake.wait()
    ended_by_itself = not consumer.is_alive()
    _drain(worker, settings.drain_s)
    if worker.beat.held:
        log.error("tasks did not end in time", jobs=[held.job.id for held in worker.beat.held])
    code = 1 if ended_by_itself else 0
    consumer.join(timeout=0.5)
    if consumer.is_alive():
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


def _build(
    settings: Settings, options: EngineOptions, num_gpus: int, gang_env: Mapping[str, str]
) -> Worker:
    store = JobStore.connect(settings)
    presence = Presence(Workers(store), options, slots=SLOTS)
    attempts = Attempts(settings.home_path, presence.id)
    gang = Gang(
        options,
        num_gpus=num_gpus,
        directory=attempts.folder,
        env={"RUSHES_LOG_LEVEL": settings.log_level, **gang_env},
    )
    supervisor = Supervisor(
        gang, presence, start_s=settings.gang_start_s, stop_s=settings.drain_s / 5
    )
    return Worker(
        store=store,
        artifacts=open_artifacts(settings),
        presence=presence,
        supervisor=supervisor,
        beat=Beat(store, presence, supervisor, settings),
        attempts=attempts,
        devices=num_gpus,
    )


def _consume(app: Celery, worker: Worker, options: EngineOptions, wake: threading.Event) -> None:
    """Celery's consumer, without the signal handlers and log settings of its command line."""
    app.finalize()
    app.set_default()
    try:
        app.WorkController(
            hostname=f"{worker.presence.id}@{worker.presence.host}",
            queues=[queue_name(options.name)],
            pool="threads",
            concurrency=SLOTS,
            without_mingle=True,
            without_gossip=True,
        ).start()
    finally:
        wake.set()


def _drain(worker: Worker, drain_s: float) -> None:
    began = time.monotonic()
    log.info("draining")
    worker.draining.set()
    celery.worker.state.should_stop = 0  # what Celery's own SIGTERM handler does
    worker.presence.enter("draining")
    for held in worker.beat.held:
        if held.work:
            worker.supervisor.cancel(held.work)
    _wait(lambda: not any(held.work for held in worker.beat.held), began + 0.4 * drain_s)
    for held in worker.beat.held:
        if held.work:
            log.warning("a run does not stop: killing the gang", job=held.job.id)
            worker.supervisor.kill(held.work)
    _wait(lambda: not worker.beat.held, began + 0.6 * drain_s)
    worker.supervisor.stop()
    worker.beat.stop()
    worker.presence.withdraw()
    worker.attempts.close()
    log.info("stopped", seconds=round(time.monotonic() - began, 1))


def _wait(done: Callable[[], bool], until: float) -> None:
    while not done() and time.monotonic() < until:
        time.sleep(0.02)


def _wake_on_signals() -> threading.Event:
    """Set by SIGTERM and SIGINT, however often they come."""
    wake = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return wake
