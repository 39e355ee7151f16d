"""The relay's side of the job store: what runs, what is released, what is due."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from jobs.connection import pairs, translated
from jobs.meter import Meter
from jobs.record import Job, JobError, decode
from jobs.states import State
from jobs.store import JobStore

_BATCH = 100


class LeadLost(Exception):
    """Another relay leads, or the lead ran out: whatever was observed counts no more."""


@dataclass(frozen=True)
class Running:
    """A job that a worker holds, as its beat stands."""

    job_id: str
    fence: str
    beat: str


@dataclass(frozen=True)
class Release:
    """A job handed to Celery under a release number, not claimed yet."""

    job_id: str
    number: int
    model: str


@dataclass(frozen=True)
class Hook:
    """One webhook event: whom to tell what, and how often that was tried."""

    event: str
    """Stable over retries; the webhook-id."""
    url: str
    created_at: float
    attempt: int
    job: Job
    """As it stood when the event happened."""


class Board:
    """The relay's acts. Every method raises `StoreUnavailable` when Redis does not answer.

    Args:
        token: this relay's; what only a leader may do is refused without the lead.
    """

    def __init__(self, store: JobStore, token: str) -> None:
        self._store = store
        self._token = token

    def lead(self, ttl_s: float) -> bool:
        """Take or renew the lead for `ttl_s`; False: another has it."""
        return bool(self._store.scripts("lead", self._token, int(ttl_s * 1000)))

    def unlead(self) -> None:
        """Give up the lead, so that a standby need not wait."""
        self._store.scripts("unlead", self._token)

    def wait(self, timeout_s: float) -> None:
        """Sleep until there is something to do, `timeout_s` at the most."""
        with translated():
            self._store.redis.blpop([self._store.key("wake")], timeout=timeout_s)

    def running(self) -> tuple[Running, ...]:
        """Every job that a worker holds."""
        entries = self._hash("running").items()
        return tuple(Running(job_id, *value.split(" ")) for job_id, value in entries)

    def lose(self, silent: Running) -> State | None:
        """Requeue a silent job, or fail it at `max_lost`. None: it is not silent any more.

        Raises:
            LeadLost: this relay leads no more.
        """
        most = self._store.settings.max_lost
        error = JobError(code="worker_lost", message=f"the worker was lost {most} times")
        answer = self._store.scripts(
            "lose",
            self._token,
            silent.job_id,
            silent.fence,
            silent.beat,
            most,
            error.model_dump_json(),
        )
        if answer == "not leading":
            raise LeadLost
        return None if answer is None else State(answer)

    def released(self) -> frozenset[Release]:
        """Every unclaimed release."""
        return _releases(self._hash("released"))

    def release(self, model: str, free_gangs: int) -> frozenset[Release]:
        """Release jobs in fair order until `free_gangs` of the model are unclaimed.

        Returns every model's unclaimed releases.

        Raises:
            LeadLost: this relay leads no more.
        """
        flat = self._store.scripts("release", self._token, model, free_gangs)
        if flat is None:
            raise LeadLost
        return _releases(pairs(flat))

    def highest_waiting(self, model: str) -> int:
        """The highest priority of the model's waiting jobs; 0: none waits, or all have the lowest."""
        with translated():
            top = self._store.redis.zrevrange(self._store.key("levels", model), 0, 0)
        return int(str(top[0])) if top else 0

    def preempt(self, job: Job) -> bool:
        """Ask the job's worker to hand it back for one of higher priority.

        False: that is not called for, or it was asked before.

        Raises:
            LeadLost: this relay leads no more.
        """
        answer = self._store.scripts("preempt", self._token, job.id, job.fence)
        if answer == "not leading":
            raise LeadLost
        return bool(answer)

    def unrelease(self, release: Release) -> None:
        """Return a release that nobody claimed to the order, in its old place."""
        self._store.unrelease(release.job_id, release.number)

    def expire_overdue(self) -> tuple[str, ...]:
        """Fail some of the jobs that have not started in time; returns their ids."""
        failed = []
        for job_id, most_s in pairs(self._store.scripts("overdue", _BATCH)).items():
            message = f"it did not start within the {most_s} s that it might wait"
            if self._store.expire(job_id, JobError(code="queue_timeout", message=message)):
                failed.append(job_id)
        return tuple(failed)

    def due_sweeps(self) -> tuple[tuple[str, str], ...]:
        """Some of the file prefixes to delete now, each with the mark that `swept` wants."""
        flat = self._store.scripts("sweep_due", _BATCH)
        return tuple(pairs(flat).items())

    def swept(self, files: str, mark: str) -> None:
        """These files are gone, unless they were noted again meanwhile."""
        self._store.scripts("sweep_done", files, mark)

    def sweep_later(self, files: str) -> None:
        """These files could not be deleted now; the others first."""
        self._store.scripts("sweep_later", files)

    def retire(self) -> bool:
        """Remove some of the finished jobs past their retention. True: there may be more."""
        return int(self._store.scripts("retire", _BATCH)) == _BATCH

    def due_hooks(self, limit: int, hold_s: float) -> tuple[Hook, ...]:
        """Due webhook events, not due again before `hold_s`, so that a crash only delays them."""
        flats = self._store.scripts("hook_take", limit, hold_s)
        return tuple(_hook(pairs(flat)) for flat in flats)

    def hooks_later(self, delays_s: Mapping[str, float]) -> None:
        """No attempt was made: each of these events is due again in so many seconds."""
        if delays_s:
            parts = [part for event in delays_s.items() for part in event]
            self._store.scripts("hook_later", *parts)

    def hook_tried(
        self, hook: Hook, tried: Mapping[str, object], status: str, delay_s: float | None
    ) -> None:
        """An attempt was made; `tried` says how it went, for the delivery log.

        `status` is pending, where `delay_s` says when the next attempt is due, or what the event ends as:
        delivered, failed, or disabled, which ends all events of this owner to this URL for a day.
        """
        text = json.dumps(tried, separators=(",", ":"))
        delay = "" if delay_s is None else delay_s
        self._store.scripts("hook_note", hook.event, hook.attempt + 1, text, status, delay)

    def count(self, what: str, *labels: str) -> None:
        """One more, for /metrics."""
        Meter(self._store).count(what, *labels)

    def _hash(self, name: str) -> dict[str, str]:
        with translated():
            return cast("dict[str, str]", self._store.redis.hgetall(self._store.key(name)))


def _releases(entries: dict[str, str]) -> frozenset[Release]:
    releases = []
    for job_id, value in entries.items():
        number, _, model = value.partition(" ")
        releases.append(Release(job_id, int(number), model))
    return frozenset(releases)


def _hook(fields: dict[str, str]) -> Hook:
    return Hook(
        event=fields["event"],
        url=fields["url"],
        created_at=float(fields["created_at"]),
        attempt=int(fields["attempt"]),
        job=decode(json.loads(fields["record"])),
    )
