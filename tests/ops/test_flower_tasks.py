"""A job's columns in Flower."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.record import Job, JobError, Progress
from jobs.settings import Settings
from jobs.states import State
from jobs.store import JobStore
from ops.flower_tasks import PROMPT_CHARACTERS, describe, formatter, outcome
from tests.jobs import making


def task(job: Job, state: str = "RECEIVED") -> SimpleNamespace:
    return SimpleNamespace(uuid=job.id, state=state, args="()", kwargs="{}", result=None)


def test_a_job_shows_prompt_model_size_owner_and_state(redis_url: str) -> None:
    store = JobStore.connect(making.settings(redis_url))
    job = store.submit(making.job(request=making.request(prompt="x" * 200)))

    shown = formatter(store)(task(job))
    assert len(shown.args) == PROMPT_CHARACTERS
    assert shown.args.startswith("xxx")
    assert shown.kwargs == "tiny, 128x128, ada"
    assert (shown.state, shown.result) == ("RECEIVED", "queued")
    store.cancel(job.id)
    assert formatter(store)(task(job, "STARTED")).state == "REVOKED"
    store.delete(job.id)
    gone = formatter(store)(task(job))
    assert (gone.args, gone.kwargs, gone.result) == ("", "", "deleted")


@pytest.mark.parametrize(
    ("changes", "state", "text"),
    [
        ({"state": State.QUEUED, "attempt": 1}, "RETRY", "queued"),
        (
            {
                "state": State.IN_PROGRESS,
                "attempt": 2,
                "progress": Progress(stage="denoising", step=3, steps=20),
            },
            "STARTED",
            "denoising 3/20 (attempt 2)",
        ),
        (
            {"state": State.COMPLETED, "attempt": 1, "usage": making.usage(2.0)},
            "SUCCESS",
            "0 files in 2.0 device-seconds",
        ),
        (
            {
                "state": State.COMPLETED,
                "attempt": 1,
                "usage": making.usage(2.0),
                "artifacts": (making.artifact("video_x", "1-a"),),
            },
            "SUCCESS",
            "1 file in 2.0 device-seconds",
        ),
        (
            {
                "state": State.CANCELLED,
                "attempt": 1,
                "progress": Progress(stage="denoising", step=6, steps=50),
            },
            "REVOKED",
            "cancelled at denoising 6/50",
        ),
        (
            {"state": State.FAILED, "attempt": 5, "error": JobError(code="gang_died", message="x")},
            "FAILURE",
            "gang_died: x (attempt 5)",
        ),
    ],
)
def test_the_outcome_is_the_records_whatever_celery_saw(
    changes: dict[str, object], state: str, text: str
) -> None:
    job = making.job().model_copy(update=changes)
    assert outcome(job) == text
    assert describe(task(job, "PENDING"), job).state == state


def test_a_store_that_is_away_is_not_asked_for_every_row(tmp_path: Path) -> None:
    store = JobStore.connect(Settings(redis_url="redis://127.0.0.1:1/0", home=tmp_path))
    now = 0.0
    format_task = formatter(store, clock=lambda: now)
    job = making.job()
    assert format_task(task(job)).args == "()"
    store.redis.connection_pool.disconnect()
    store.get = lambda *_, **__: pytest.fail("asked again")  # type: ignore[method-assign]
    assert format_task(task(job)).args == "()"
    now = 60.0
    with pytest.raises(pytest.fail.Exception):
        format_task(task(job))
