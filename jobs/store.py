"""The job store as API and workers use it: thin over one Lua script per edge and act.

The relay's side is `jobs.relay.board`. Every script is atomic and idempotent, compares before it sets,
and is the only way a state changes; `jobs/scripts/prelude.lua` lists the keys.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Literal, Self, cast

import redis
from pydantic import TypeAdapter
from redis.client import PubSub
from ulid import ULID

from jobs import connection
from jobs.connection import Scripts, pairs, translated
from jobs.cost import work_units
from jobs.errors import (
    Conflict,
    KeyReused,
    NotFound,
    OverBudget,
    QueueFull,
    RushesError,
    StorageUnavailable,
    StoreUnavailable,
)
from jobs.looks import Looks, standing
from jobs.outlook import Look
from jobs.record import (
    Artifact,
    Checkpoint,
    Job,
    JobError,
    Progress,
    Resumed,
    Usage,
    decode,
    encode,
    new_nonce,
)
from jobs.settings import Settings
from jobs.states import State

_ARTIFACTS = TypeAdapter(tuple[Artifact, ...])


@dataclass(frozen=True)
class Page:
    """A part of an owner's jobs."""

    looks: tuple[Look, ...]
    has_more: bool

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The records alone."""
        return tuple(look.job for look in self.looks)


@dataclass(frozen=True)
class Filter:
    """Which of an owner's jobs a list has; None: all."""

    kind: str | None = None
    status: State | None = None
    model: str | None = None
    created_after: float | None = None
    """Unix seconds; jobs of that very moment are left out."""
    created_before: float | None = None


@dataclass(frozen=True)
class Once:
    """An idempotency key of the owner's, and what it stands for."""

    key: str
    """A digest of what the client sent."""
    body: str
    """A digest of what the client asked for."""


@dataclass(frozen=True)
class Quota:
    """What an owner may have; None: no limit."""

    max_queued: int | None = None
    daily_device_s: float | None = None
    """Device-seconds that end on one UTC day, the estimates of its live jobs included."""


class Hold(IntEnum):
    """What a beat is answered."""

    LOST = 0
    """The job is not the worker's any more: stop."""
    HELD = 1
    HAND_BACK = 2
    """One of higher priority waits: leave a checkpoint and hand it back."""


EVERYTHING = Filter()
NO_QUOTA = Quota()


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
        self._looks = Looks(self.scripts)

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
        return self.accept(job).job

    def accept(self, job: Job, *, once: Once | None = None, quota: Quota = NO_QUOTA) -> Look:
        """`submit` within its owner's limits; the same idempotency key gives the job that is there.

        Raises:
            QueueFull: `max_queued` jobs wait already, the owner's own or everybody's.
            OverBudget: the owner's device-seconds of this day are used up.
            KeyReused: the idempotency key was used with another body, or its job is deleted.
            StorageUnavailable: its input images were not stored after `expect_inputs`, or too slowly.
        """
        fields = [part for field in encode(job).items() for part in field]
        answer, *rest = self.scripts(
            "submit",
            job.id,
            self.settings.max_queued,
            work_units(job.request),
            job.model,
            once.key if once else "",
            once.body if once else "",
            _text(quota.max_queued),
            _text(quota.daily_device_s and round(1000 * quota.daily_device_s)),
            "1" if job.request.images else "",
            *fields,
        )
        if answer != "ok":
            raise _refusal(answer, rest, self.settings.max_queued, quota)
        return _look(rest)

    def expect_inputs(self, job_id: str) -> None:
        """Input images of a job to come are about to be stored: swept, unless it is submitted soon."""
        self.scripts("expect_inputs", job_id)

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

    def look(self, job_id: str, *, owner: str | None = None) -> Look:
        """The record, and where the job stands.

        Raises:
            NotFound: no such job, or not `owner`'s.
        """
        return self._looks(job_id, owner or "")

    def preview(self, job: Job) -> str | None:
        """The last preview of a running job's attempt, a WebP in base64; None: there is none."""
        with translated():
            found = cast("str | None", self.redis.get(self.key("preview", job.id)))
        fence, _, image = (found or "").partition(" ")
        return image if fence == job.fence and image else None

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
        only: Filter = EVERYTHING,
    ) -> Page:
        """An owner's jobs by creation, newest first unless `order` is asc, from behind job `after`.

        A deleted `after` still marks its place, by the time in its id.

        Raises:
            NotFound: `after` is no job id.
        """
        wanted = [_text(value) for value in dataclasses.astuple(only)]
        behind = after or ""
        time_s = _created_at(behind) if behind else 0.0
        looks: list[Look] = []
        while True:
            left = limit + 1 - len(looks)
            behind, *found = self.scripts("page", owner, behind, time_s, left, order, *wanted)
            looks += map(_look, found)
            if len(looks) > limit or not behind:
                return Page(tuple(looks[:limit]), len(looks) > limit)
            time_s = _created_at(behind)

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
        """Fail a queued job that has not started by its deadline. False: it is not, or not yet."""
        return self.scripts("expire", job_id, error.model_dump_json()) is not None

    # What workers do -----------------------------------------------------------------------------

    def claim(self, job_id: str, release: int, worker_id: str) -> Job | None:
        """Take a released job under a new fence and mark the worker's gang busy.

        None: refused, because the release is not the current one, the job is not queued, or the gang
        computes another job or is not ready (it then goes back to the order). Raise Celery's `Ignore`.
        """
        flat = self.scripts("claim", job_id, release, worker_id, new_nonce())
        return None if flat is None else decode(pairs(flat))

    def unrelease(self, job_id: str, release: int) -> bool:
        """Return a released job unclaimed: this worker cannot take it now, another may at once."""
        return bool(self.scripts("unrelease", job_id, release))

    def beat(
        self,
        job_id: str,
        fence: str,
        progress: Progress | None = None,
        resumed: Resumed | None = None,
    ) -> Hold:
        """Raise the beat; say where the job stands, and where it went on."""
        texts = ["" if news is None else news.model_dump_json() for news in (progress, resumed)]
        return Hold(self.scripts("beat", job_id, fence, *texts))

    def checkpoint(self, job_id: str, fence: str, checkpoint: Checkpoint) -> bool:
        """Let the next attempt go on from there: its files are stored. False: refused."""
        return bool(self.scripts("checkpoint", job_id, fence, checkpoint.model_dump_json()))

    def show_preview(self, job_id: str, fence: str, image: bytes) -> None:
        """Let those who watch the job see a small WebP, until the next or for a minute."""
        text = base64.b64encode(image).decode()
        self.scripts("show_preview", job_id, fence, text)

    def gang_free(self, worker_id: str, job_id: str, fence: str) -> None:
        """The gang has stopped computing this attempt, though it may still have to be stored.

        Call it after every run, a cancelled or refused one too, and once more when an attempt that was
        taken from its worker is over: nothing else frees what it holds there.
        """
        self.scripts("gang_free", worker_id, job_id, fence)

    def complete(
        self,
        job_id: str,
        fence: str,
        artifacts: Sequence[Artifact],
        usage: Usage,
        *,
        seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> bool:
        """Commit the artifacts. False: refused, and the files are noted for the sweep.

        `seconds` is for /metrics: `step`, a mean step of the denoising, and `store`.
        """
        files = _ARTIFACTS.dump_json(tuple(artifacts)).decode()
        answer = self.scripts(
            "complete",
            job_id,
            fence,
            files,
            usage.model_dump_json(),
            usage.device_s,
            json.dumps(dict(seconds)),
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

    def pubsub(self) -> PubSub:
        """A connection of its own that hears what the scripts publish; close it."""
        return PubSub(self.redis.connection_pool)

    def _listen(self, stop: threading.Event) -> Iterator[str]:
        with translated(), self.pubsub() as channel:
            channel.subscribe(self.key("cancels"))
            while not stop.is_set():
                message = channel.get_message(timeout=0.5)
                if message is not None and message["type"] == "message":
                    yield message["data"]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _look(found: Sequence[list[str]]) -> Look:
    record, place = found
    return Look(decode(pairs(record)), standing(place))


def _refusal(answer: str, rest: Sequence[str], max_queued: int, quota: Quota) -> RushesError:
    match answer:
        case "full":
            return QueueFull(f"{max_queued} jobs wait already; try again later")
        case "owner full":
            return QueueFull(f"{quota.max_queued} of your jobs wait already; try again later")
        case "budget":
            left_s = 86400 - int(time.time()) % 86400
            return OverBudget(
                f"{float(rest[0]) / 1000:.0f} of your {quota.daily_device_s:g} device-seconds of this day "
                "are left, too few for this job",
                retry_after_s=left_s,
            )
        case "deleted":
            return KeyReused("the job of this Idempotency-Key was deleted: use a new key")
        case "late":
            return StorageUnavailable("the input images were not stored in time")
    return KeyReused("this Idempotency-Key was used with another body: use a new key")


def _created_at(job_id: str) -> float:
    """Unix seconds, from the ULID in the id."""
    try:
        return ULID.from_str(job_id.partition("_")[2]).timestamp
    except ValueError:
        raise NotFound(f"no job {job_id!r}") from None
