"""An attempt's spans, reported once it is over: the wait before it, its claim, its stages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celery.exceptions import Ignore

from jobs.record import Job
from jobs.tracing import Attributes, Tracing
from worker.timeline import Timeline


@dataclass(frozen=True)
class Claimed:
    """How an attempt began; times are unix seconds."""

    job: Job
    called_at: float
    """When Celery began the task."""
    at: float
    """When the job was ours."""


@contextmanager
def traced(tracing: Tracing, claimed: Claimed, timeline: Timeline) -> Iterator[None]:
    """Report the attempt that the block makes; `timeline` knows its stages at the end."""
    outcome, error = "completed", ""
    try:
        yield
    except Ignore as ended:
        outcome = str(ended)
        raise
    except Exception as ended:
        outcome, error = "failed", str(ended)
        raise
    finally:
        if tracing.on:
            _report(tracing, claimed, timeline, outcome, error)


def _report(
    tracing: Tracing, claimed: Claimed, timeline: Timeline, outcome: str, error: str
) -> None:
    job, called_at = claimed.job, claimed.called_at
    whose: Attributes = {"job.id": job.id, "job.attempt": job.fence, "job.model": job.model}
    if job.attempt == 1:
        wait: Attributes = {"job.id": job.id, "job.priority": job.priority}
        parent = job.traceparent
        tracing.start("queued", parent=parent, at=job.created_at, attributes=wait).end(at=called_at)
    attempt = tracing.start(
        "attempt",
        parent=job.traceparent,
        at=called_at,
        kind="consumer",
        attributes={**whose, "job.size": job.request.size, "outcome": outcome},
    )
    inside = attempt.traceparent
    tracing.start("claim", parent=inside, at=called_at, attributes=whose).end(at=claimed.at)
    for phase in timeline.phases:
        tracing.start(
            phase.stage,
            parent=inside,
            at=phase.began_at,
            attributes={**whose, "item": phase.item, "steps": phase.steps},
        ).end(at=phase.ended_at)
    attempt.end(error=error)
