"""How a job looks in Flower: what Celery does not know of it, read from the record."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from jobs.errors import NotFound, StoreUnavailable
from jobs.record import Job
from jobs.states import State
from jobs.store import JobStore

PROMPT_CHARACTERS = 50
AWAY_S = 5.0
"""How long a store that did not answer is not asked again: Flower waits for each row of a page."""

CELERY_STATES = {
    State.QUEUED: "RETRY",
    State.IN_PROGRESS: "STARTED",
    State.COMPLETED: "SUCCESS",
    State.FAILED: "FAILURE",
    State.CANCELLED: "REVOKED",
}
"""Queued here means: after a try. A job that nobody has tried yet keeps Celery's own state."""


def formatter(store: JobStore, *, clock: Callable[[], float] = time.monotonic) -> FunctionType:
    """Flower's `format_task`: called with a copy of its task for every row and page."""
    away_until = 0.0

    def format_task(task: Any) -> Any:
        nonlocal away_until
        if clock() < away_until:
            return task
        try:
            return describe(task, store.get(task.uuid))
        except NotFound:
            # Celery's own arguments say nothing that the columns are for.
            task.args, task.kwargs, task.result = "", "", "deleted"
        except StoreUnavailable:
            away_until = clock() + AWAY_S
        return task

    return cast("FunctionType", format_task)


def describe(task: Any, job: Job) -> Any:
    """The task with the job's own state and, in the columns args, kwargs and result, its words."""
    prompt = job.request.prompt
    cut = prompt if len(prompt) <= PROMPT_CHARACTERS else f"{prompt[: PROMPT_CHARACTERS - 1]}…"
    task.args = cut
    task.kwargs = f"{job.model}, {job.request.size}, {job.owner}"
    task.result = outcome(job)
    if job.attempt or job.state.terminal:
        task.state = CELERY_STATES[job.state]
    return task


def outcome(job: Job) -> str:
    """What became of the job, or how far it is, in a few words."""
    tries = "" if job.attempt <= 1 else f" (attempt {job.attempt})"
    if job.state is State.COMPLETED and job.usage is not None:
        count = len(job.artifacts)
        files = "1 file" if count == 1 else f"{count} files"
        return f"{files} in {job.usage.device_s:.1f} device-seconds{tries}"
    if job.state is State.FAILED and job.error is not None:
        return f"{job.error.code}: {job.error.message[:PROMPT_CHARACTERS]}{tries}"
    if job.progress is not None:
        at = job.progress
        was = "cancelled at " if job.state is State.CANCELLED else ""
        return f"{was}{at.stage} {at.step}/{at.steps}{tries}"
    return f"{job.state}{tries}"
