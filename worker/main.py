"""`rushes worker`: one Celery worker that owns one warm gang.

Threads: main (waits until it is time to leave), celery (its consumer, with a pool of two task
threads), supervisor (owns the gang), beat, cancels.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping

import structlog
from celery import Celery

from jobs.artifacts import ArtifactStore, check_at_start, open_artifacts
from jobs.celery_app import make_celery, queue_name
from jobs.errors import EXIT_REFUSED
from jobs.log import configure
from jobs.settings import Settings
from jobs.steps import StepTimes
from jobs.store import JobStore
from jobs.tracing import open_tracing
from jobs.workers import Workers
from pipeline.gang.gang import Gang, GangRefused
from pipeline.gang.placement import plan, probe
from pipeline.options import EngineOptions
from worker.attempts import Attempts
from worker.beat import Beat
from worker.checkpoints import Pace
from worker.control import take_over
from worker.disk import Disk
from worker.drain import Leave, drain
from worker.intake import Intake
from worker.presence import Presence
from worker.supervisor import Supervisor
from worker.task import Worker, register
from worker.watchdog import Watchdog

log = structlog.get_logger()

SLOTS = 2
"""Jobs held at once: one on the gang, one being stored."""


def run_worker(settings: Settings, options: EngineOptions, *, gang_env: Mapping[str, str]) -> int:
    """Serve until SIGTERM or SIGINT. Call it on the main thread, as the last thing of a process.

    A thread that hangs with a disk or a socket cannot be ended by itself: with one such left after
    `drain_s`, the process ends here.

    Args:
        settings: where the store and the artifacts are.
        options: what to serve; `num_gpus` is this one gang's.
        gang_env: added to the ranks' environment.

    Returns:
        The exit code: 0 when told to leave, 1 when a part broke.

    Raises:
        SettingsError: no or a malformed RUSHES_REDIS_URL; the artifact store refuses.
        GangError: `num_gpus` is omitted and the device is not there.
        GangRefused: the gang can never start; said once everything is taken down.
    """
    _log(settings)
    artifacts = open_artifacts(settings)
    if problem := check_at_start(artifacts):
        log.warning(problem)
    leave = Leave()
    leave.listen()
    num_gpus = options.num_gpus or plan(options, probe(options)).gang_size
    app = make_celery(settings)
    worker = _build(app, settings, options, num_gpus, gang_env, artifacts=artifacts, leave=leave)
    register(app, worker)
    take_over(worker.store)
    worker.supervisor.start()
    worker.beat.start()
    consumer = threading.Thread(
        target=_consume, args=(app, worker, options, leave), name="celery", daemon=True
    )
    consumer.start()
    log.info("worker started", worker=worker.presence.id, model=options.name, num_gpus=num_gpus)

    code = leave.wait()
    ends = time.monotonic() + settings.drain_s
    leaving = threading.Thread(target=drain, args=(worker, settings.drain_s), daemon=True)
    leaving.start()
    for thread in (leaving, consumer):
        thread.join(max(0.0, ends - time.monotonic()))
    if leaving.is_alive() or consumer.is_alive():
        log.warning("leaving behind what hangs", jobs=[held.job.id for held in worker.beat.held])
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    if code == EXIT_REFUSED:
        raise GangRefused(worker.supervisor.refusal)
    return code


def _log(settings: Settings) -> None:
    """Ours by structlog; what libraries say by logging, quieter."""
    configure(settings.log_level)
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.DEBUG if settings.log_level == "debug" else logging.WARNING,
        format="%(asctime)s [%(levelname)s] %(name)s: %(message)s",
    )


def _build(
    app: Celery,
    settings: Settings,
    options: EngineOptions,
    num_gpus: int,
    gang_env: Mapping[str, str],
    *,
    artifacts: ArtifactStore,
    leave: Leave,
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
    watchdog = Watchdog(
        StepTimes(store),
        options,
        least_s=settings.hang_least_s,
        unseen_s=settings.hang_unseen_s,
    )
    supervisor = Supervisor(
        gang,
        presence,
        watchdog,
        start_s=settings.gang_start_s,
        stop_s=settings.drain_s / 5,
        on_refused=leave.refused,
    )
    return Worker(
        store=store,
        artifacts=artifacts,
        presence=presence,
        supervisor=supervisor,
        beat=Beat(
            store,
            presence,
            supervisor,
            settings,
            Intake(app, presence.node, queue_name(options.name)),
        ),
        attempts=attempts,
        disk=Disk(attempts, presence),
        devices=num_gpus,
        store_retry_s=settings.store_retry_s,
        pace=Pace(settings.checkpoint_steps, settings.checkpoint_s),
        preview_s=settings.preview_s,
        tracing=open_tracing("worker"),
    )


def _consume(app: Celery, worker: Worker, options: EngineOptions, leave: Leave) -> None:
    """Celery's consumer, without the signal handlers and log settings of its command line."""
    app.finalize()
    app.set_default()
    app.WorkController(
        hostname=worker.presence.node,
        queues=[queue_name(options.name)],
        pool="threads",
        concurrency=SLOTS,
        without_mingle=True,
        without_gossip=True,
    ).start()
    leave.broken()  # it ends by itself only when it broke; after a drain nobody listens any more
