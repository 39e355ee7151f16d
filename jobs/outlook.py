"""When a live job will be done, as far as anybody can tell: an estimate for people and poll intervals."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.public import percent
from jobs.record import Job, Progress
from jobs.states import State

MEASURED_PERCENT = 10
"""From here on what the job has done tells more than what others took: it denoises."""


@dataclass(frozen=True)
class Standing:
    """Where a job stood when its record was read."""

    queue_position: int | None
    """Among its owner's waiting jobs of that model and priority, from 1; None: it does not wait."""
    owners: int
    """Owners that wait at its level, its own included."""
    whole_s: float | None
    """Seconds that all of it takes, by finished jobs of the model; None: nobody can tell."""


@dataclass(frozen=True)
class Look:
    """A job and where it stands."""

    job: Job
    standing: Standing


def eta_s(look: Look, *, gangs: int, now: float) -> float | None:
    """Seconds until the job is done; None: it is over, or nothing is known to tell it from.

    A job that denoises or is beyond that is measured by its own pace, before that by finished jobs'.
    A waiting job counts its owner's jobs before it, as many of every other waiting owner, and half of
    one that runs, spread over `gangs`, each as long as itself.
    """
    job, standing = look.job, look.standing
    if job.state.terminal:
        return None
    done, before = percent(job.progress), _percent_resumed(job)
    if job.started_at is not None and done - before >= MEASURED_PERCENT:
        return max(0.0, now - job.started_at) * (100 - done) / (done - before)
    if standing.whole_s is None:
        return None
    whole_s = standing.whole_s * (1 - before / 100)
    if job.state is State.IN_PROGRESS:
        ran_s = max(0.0, now - (job.started_at or now))
        return max(0.0, whole_s - ran_s)
    jobs_before = max(0, (standing.queue_position or 1) - 1) * max(1, standing.owners)
    return whole_s * (1 + (jobs_before + 0.5) / max(1, gangs))


def _percent_resumed(job: Job) -> int:
    """How much of the job its attempt found done."""
    resumed = job.resumed
    if resumed is None or not (resumed.item or resumed.step):
        return 0
    return percent(
        Progress(
            stage="denoising",
            step=resumed.step,
            steps=resumed.steps,
            item=resumed.item,
            items=job.request.num_outputs,
        )
    )
