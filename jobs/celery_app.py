"""Celery, which carries the hint that a job was released. Redis holds the truth.

A message can be lost, late or doubled: the claim's compare-and-set makes each of these harmless. No
acknowledgement outlives the delivery, so no redelivery can run a job twice, and no prefetch can hold a
job hostage. Task id = job id, so that Flower shows each job under its own.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis import RedisError

from jobs.address import read
from jobs.errors import SettingsError, StoreUnavailable

if TYPE_CHECKING:
    from jobs.settings import Settings

TASK = "rushes.generate"
"""Called with (job id, release number)."""


def make_celery(settings: Settings) -> Celery:
    """The app that relay, worker and Flower share.

    Raises:
        SettingsError: no or a malformed RUSHES_REDIS_URL.
    """
    if settings.redis_url is None:
        raise SettingsError("RUSHES_REDIS_URL is not set: name the server, or run `rushes serve`")
    try:
        address = read(settings.redis_url)
    except ValueError as error:
        raise SettingsError(f"RUSHES_REDIS_URL is malformed: {error}") from None
    app = Celery("rushes", broker=address.broker_url, set_as_current=False)
    app.conf.update(
        broker_use_ssl=address.ssl or None,
        # Delivery: early acknowledgement, nothing reserved beyond what runs.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "global_keyprefix": settings.redis_prefix,
            # Read with Sentinels only.
            "master_name": address.service,
            "sentinel_kwargs": address.sentinel_options,
            # Nothing is unacknowledged while it runs; a day keeps even a stray entry from coming back.
            "visibility_timeout": 86400,
            "socket_connect_timeout": 5,
            "socket_timeout": 10,
            "socket_keepalive": True,
            # For senders, who would else try for 6 s; a worker's consumer reconnects without end.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
        # The record is the result.
        task_ignore_result=True,
        result_backend=None,
        task_publish_retry=False,
        # A task that cannot be read is no task of ours.
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=queue_name("default"),
        # Flower's eyes.
        worker_send_task_events=True,
        task_send_sent_event=True,
        task_track_started=True,
        worker_hijack_root_logger=False,
    )
    return app


def queue_name(model: str) -> str:
    """The queue of a served model, safe in keys and on Celery's command line."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", model)
    if safe != model:
        safe = f"{safe}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    return f"jobs.{safe}"


def send(app: Celery, job_id: str, model: str, release: int) -> None:
    """Tell the model's workers that a job was released.

    Raises:
        StoreUnavailable: the broker does not answer.
    """
    try:
        app.send_task(TASK, args=(job_id, release), task_id=job_id, queue=queue_name(model))
    except (OperationalError, KombuError, RedisError, OSError) as error:
        raise StoreUnavailable(f"the broker does not answer: {type(error).__name__}") from error
