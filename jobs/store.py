"""The job store as API and workers use it: thin over one Lua script per edge and act.

The relay's side is `jobs.relay.board`. Every script is atomic and idempotent, compares before it sets,
and is the only way a state changes; `jobs/scripts/prelude.lua` lists the keys.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self, cast

import redis
from pydantic import TypeAdapter
from redis.client import PubSub
from ulid import ULID

from jobs import connection
from jobs.connection import Scripts, pairs, translated
from jobs.cost import work_units
from jobs.errors import Conflict, NotFound, QueueFull, StoreUnavailable
from jobs.record import Artifact, Job, JobError, Progress, Usage, decode, encode, new_nonce
from jobs.settings import Settings
from jobs.states import State

_ARTIFACTS = TypeAdapter(tuple[Artifact, ...])


@dataclass(frozen=True)
class Page:
    """A part of an owner's jobs."""

    jobs: tuple[Job, ...]
    has_more: bool


class JobStore:
    """The durable jobs.

    Every method raises `StoreUnavailable` when Redis does not answer or refuses writes.

    Args:
        redis: a client that decodes responses; `connect` makes one.
    """

    def __init__(self, redis: redis.Redis, settings: Settings) -> None:
        self.redis = redis
        self.settings = settings
        self.scripts = Scripts(redis, settings)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Open `settings.redis_url`; nothing is sent yet.

        Raises:
            SettingsError: no or a malformed RUSHES_REDIS_URL.
        """
        return cls(connection.connect(settings), settings)

    def key(self, *parts: str) -> str:
        """A key under the prefix."""
        return self.settings.redis_prefix + ":".join(parts)

    def ping(self) -> None:
        """Return when Redis answers."""
        with translated():
            self.redis.ping()

    # What clients do -----------------------------------------------------------------------------

    def submit(self, job: Job) -> Job:
        """Make a job durable and queue it. The same id again gives the job that is there.

        Raises:
            QueueFull: `max_queued` jobs wait already.
        """
        fields = [part for field in encode(job).items() for part in field]
        limit = self.settings.max_queued
        flat = self.scripts("submit", job.id, limit, work_units(job.request), job.model, *fields)
        if flat is None:
            raise QueueFull(f"{limit} jobs wait already; try again later")
        return decode(pairs(flat))

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """The record.

        Raises:
            NotFound: no such job, or not `owner`'s.
        """
        with translated():
            fields = cast("dict[str, str]", self.redis.hgetall(self.key("job", job_id)))
        if not fields or (owner is not None and fields["owner"] != owner):
            raise NotFound(f"no job {job_id!r}")
        return decode(fields)

    def queued(self) -> int:
        """How many jobs wait, all owners and models together."""
        with translated():
            return int(self.redis.get(self.key("queued")) or 0)

    def list(
        self,
        owner: str,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page:
        """An owner's jobs by creation, newest first unless `order` is asc, from behind job `after`.

        A deleted `after` still marks its place, by the time in its id.

        Raises:
            NotFound: `after` is no job id.
        """
        time_s = 0.0 if after is None else _created_at(after)
        ids = self.scripts("page", owner, after or "", time_s, limit + 1, order)
        with translated():
            pipe = self.redis.pipeline(transaction=False)
            for job_id in ids[:limit]:
                pipe.hgetall(self.key("job", job_id))
            records = pipe.execute()
        return Page(tuple(decode(fields) for fields in records if fields), len(ids) > limit)

    def cancel(self, job_id: str, *, owner: str | None = None) -> Job:
        """Cancel a live job; one that is cancelled already is given back as it is.

        Raises:
            NotFound: no such job, or not `owner`'s.
            Conflict: it has completed or failed.
        """
        flat = self.scripts("cancel", job_id, owner or "")
        if flat is None:
            raise NotFound(f"no job {job_id!r}")
        job = decode(pairs(flat))
        if job.state is not State.CANCELLED:
            raise Conflict(f"job {job_id} is {job.state} already")
        return job

    def delete(self, job_id: str, *, owner: str | None = None) -> None:
        """Cancel the job if it is live and remove it; the relay sweeps its files.

        Raises:
            NotFound: no such job, or not `owner`'s.
        """
        if not self.scripts("delete", job_id, owner or "", new_nonce()):
            raise NotFound(f"no job {job_id!r}")

    def expire(self, job_id: str, error: JobError) -> bool:
        """Fail a queued job that waited past its deadline. False: it is not queued."""
        return self.scripts("expire", job_id, error.model_dump_json()) is not None

    # What workers do -----------------------------------------------------------------------------

    def claim(self, job_id: str, release: int, worker_id: str) -> Job | None:
        """Take a released job under a new fence and mark the worker's gang busy.

        None: refused, because the release is not the current one, the job is not queued, or the gang
        computes another job (it then goes back to the order). Raise Celery's `Ignore`.
        """
        flat = self.scripts("claim", job_id, release, worker_id, new_nonce())
        return None if flat is None else decode(pairs(flat))

    def unrelease(self, job_id: str, release: int) -> bool:
        """Return a released job unclaimed: this worker cannot take it now, another may at once."""
        return bool(self.scripts("unrelease", job_id, release))

    def beat(self, job_id: str, fence: str, progress: Progress | None = None) -> bool:
        """Raise the beat and say where the job stands. False: the job is lost, stop."""
        text = "" if progress is None else progress.model_dump_json()
        return bool(self.scripts("beat", job_id, fence, text))

    def gang_free(self, worker_id: str, job_id: str) -> None:
        """The gang has stopped computing this job, though it may still have to be stored.

        Call it after every run, a cancelled or refused one too: nothing else frees the gang of a job
        that was taken from its worker.
        """
        self.scripts("gang_free", worker_id, job_id)

    def complete(
        self, job_id: str, fence: str, artifacts: Sequence[Artifact], usage: Usage
    ) -> bool:
        """Commit the artifacts. False: refused, and the files are noted for the sweep."""
        files = _ARTIFACTS.dump_json(tuple(artifacts)).decode()
        answer = self.scripts(
            "complete", job_id, fence, files, usage.model_dump_json(), usage.device_s
        )
        return answer is not None

    def fail(self, job_id: str, fence: str, error: JobError) -> bool:
        """End the job with an error that another try would not cure. False: refused."""
        return self.scripts("fail", job_id, fence, error.model_dump_json()) is not None

    def retry(self, job_id: str, fence: str, error: JobError) -> State | None:
        """A gang death or an error while running. None: refused.

        QUEUED again, or FAILED with `error` once `max_failures` tries have ended so.
        """
        text = error.model_dump_json()
        answer = self.scripts("retry", job_id, fence, text, self.settings.max_failures)
        return None if answer is None else State(answer)

    def hand_back(self, job_id: str, fence: str) -> bool:
        """Return a running job unharmed (drain, preemption); counts as no failure. False: refused."""
        return self.scripts("hand_back", job_id, fence) is not None

    def cancels(self, stop: threading.Event) -> Iterator[str]:
        """Ids of running jobs as they are cancelled, until `stop`; reconnects by itself.

        A hint only: one sent while disconnected is lost, the refused beat tells for sure.
        """
        while not stop.is_set():
            try:
                yield from self._listen(stop)
            except StoreUnavailable:
                stop.wait(0.5)

    def _pubsub(self) -> PubSub:
        return PubSub(self.redis.connection_pool, ignore_subscribe_messages=True)

    def _listen(self, stop: threading.Event) -> Iterator[str]:
        with translated(), self._pubsub() as channel:
            channel.subscribe(self.key("cancels"))
            while not stop.is_set():
                message = channel.get_message(timeout=0.5)
                if message is not None:
                    yield message["data"]


def _created_at(job_id: str) -> float:
    """Unix seconds, from the ULID in the id."""
    try:
        return ULID.from_str(job_id.partition("_")[2]).timestamp
    except ValueError:
        raise NotFound(f"no job {job_id!r}") from None
