from __future__ import annotations

import json
import threading
import time
from contextlib import AbstractContextManager

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore

from jobs.celery_app import TASK, make_celery, queue_name, send
from jobs.errors import SettingsError, StoreUnavailable
from jobs.relay.board import Board
from jobs.store import JobStore
from tests.fixtures.redis import free_port
from tests.fixtures.waiting import wait_for
from tests.jobs import making


def test_the_settings_that_jobs_rest_on() -> None:
    app = make_celery(making.settings("redis://127.0.0.1:1/0"))
    pinned = {
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "task_ignore_result": True,
        "result_backend": None,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_send_task_events": True,
        "task_send_sent_event": True,
    }
    assert {name: app.conf[name] for name in pinned} == pinned
    assert app.conf.broker_transport_options["global_keyprefix"] == "t:"
    with pytest.raises(SettingsError):
        make_celery(making.settings("x").model_copy(update={"redis_url": None}))


def test_queue_names_are_safe_and_distinct() -> None:
    assert queue_name("wan2.1-t2v") == "jobs.wan2.1-t2v"
    names = {queue_name(model) for model in ("/models/a,b", "/models/a_b", "_models_a_b", "ü")}
    assert len(names) == 4
    assert all(name.isascii() and "," not in name and "/" not in name for name in names)


def test_a_message_is_called_by_job_id_and_lies_under_the_prefix(store: JobStore) -> None:
    app = make_celery(store.settings)
    send(app, "video_1", "tiny", 3)
    (key,) = store.redis.scan_iter("t:jobs.*")
    assert key == "t:jobs.tiny"
    message = json.loads(store.redis.lindex(key, 0) or "")
    assert message["headers"]["id"] == "video_1"
    assert message["headers"]["task"] == TASK
    assert message["headers"]["eta"] is None
    assert message["headers"]["expires"] is None
    assert [key for key in store.redis.scan_iter() if not key.startswith("t:")] == []
    app.close()


def test_a_broker_that_is_away_is_our_own_error() -> None:
    app = make_celery(making.settings(f"redis://127.0.0.1:{free_port()}/0"))
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="broker"):
        send(app, "video_1", "tiny", 1)
    assert time.monotonic() - start < 2.5
    app.close()


# Celery's test worker warns that a worker may run as root, and tests do.
@pytest.mark.filterwarnings("ignore:.*superuser privileges")
def test_doubled_late_and_revoked_messages_run_a_job_once(store: JobStore, board: Board) -> None:
    app = make_celery(store.settings)
    runs: list[tuple[str, int]] = []
    refused: list[tuple[str, int]] = []
    _register(app, store, runs, refused)
    first, second = store.submit(making.job()), store.submit(making.job())
    with _worker(app):
        (release,) = board.release("tiny", 1)
        send(app, first.id, "tiny", release.number - 1)
        for _ in range(3):
            send(app, first.id, "tiny", release.number)
        wait_for(lambda: len(runs) + len(refused) == 4, "every message is read")
        assert runs == [(first.id, release.number)]
        (release,) = board.release("tiny", 1)
        app.control.revoke(second.id)
        send(app, second.id, "tiny", release.number)
        store.cancel(second.id)
        send(app, second.id, "tiny", release.number)
    assert runs == [(first.id, 1)]
    app.close()


def _register(
    app: Celery,
    store: JobStore,
    runs: list[tuple[str, int]],
    refused: list[tuple[str, int]],
) -> None:
    lock = threading.Lock()

    def generate(job_id: str, release: int) -> None:
        job = making.claim(store, job_id, release)
        with lock:
            (runs if job else refused).append((job_id, release))
        if job is None:
            raise Ignore
        store.complete(job.id, job.fence, [], making.usage())

    app.task(name=TASK)(generate)


def _worker(app: Celery) -> AbstractContextManager[object]:
    worker: AbstractContextManager[object] = start_worker(
        app,
        pool="threads",
        concurrency=2,
        queues=[queue_name("tiny")],
        perform_ping_check=False,
        shutdown_timeout=30,
        loglevel="ERROR",
    )
    return worker
