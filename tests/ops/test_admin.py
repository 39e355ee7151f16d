"""`rushes admin`, beside a store with a worker and jobs."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from jobs.errors import SettingsError
from jobs.keys import Keys, Rights
from jobs.settings import load_settings
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import Workers
from ops.cli import app
from tests.api.worker import claim
from tests.jobs import making


@pytest.fixture
def store(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> JobStore:
    monkeypatch.setenv("RUSHES_REDIS_URL", redis_url)
    store = JobStore.connect(load_settings())
    Workers(store).announce(making.worker("worker-1"))
    return store


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["admin", *arguments])
    if isinstance(done.exception, SettingsError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_worker_is_listed_drained_and_undrained(store: JobStore) -> None:
    assert "worker-1" in run("workers")
    assert "draining" in run("drain", "worker-1")
    assert json.loads(run("workers", "--json"))["data"][0]["drained"] is True
    assert json.loads(run("undrain", "worker-1", "--json"))["state"] == "ready"
    with pytest.raises(SettingsError, match="no live worker 'w'"):
        run("drain", "w")


def test_the_queue_is_shown_and_jobs_are_requeued_and_cancelled(store: JobStore) -> None:
    job = store.submit(making.job(owner="ada"))
    assert "ada" in run("queue")
    claim(store, job.id)
    shown = json.loads(run("queue", "--json"))
    assert (shown["running"][0]["id"], shown["waiting"]) == (job.id, [])
    assert job.id in run("queue")
    run("requeue", job.id)
    assert store.get(job.id).state is State.QUEUED
    with pytest.raises(SettingsError, match="does not run"):
        run("requeue", job.id)
    assert json.loads(run("cancel", job.id, "--json")) == {"id": job.id, "status": "cancelled"}


def test_quotas_are_shown_set_and_lifted(store: JobStore) -> None:
    key, _ = Keys(store).create("ann", Rights(max_queued=7))
    assert "0 of 7" in run("quotas")
    run("quota", key.id, "--max-queued", "0", "--daily-gpu-s", "90")
    shown = json.loads(run("quota", key.id, "--json"))
    assert (shown["max_queued"], shown["daily_device_s"]) == (None, 90)
    with pytest.raises(SettingsError, match="no key 'key_x'"):
        run("quota", "key_x")
    with pytest.raises(SettingsError, match="max_running"):
        run("quota", key.id, "--max-running", "99999999")
