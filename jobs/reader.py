"""The durable jobs as those see them who only look: one job, where it stands, an owner's list."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self, cast

import redis
from redis.client import PubSub
from ulid import ULID

from jobs import connection
from jobs.connection import Scripts, argument, translated
from jobs.errors import NotFound
from jobs.looks import Looks, look_of
from jobs.outlook import Look
from jobs.record import Job, decode
from jobs.settings import Settings
from jobs.states import State


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


EVERYTHING = Filter()


class JobReader:
    """The durable jobs, to look at.

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

    def pubsub(self) -> PubSub:
        """A connection of its own that hears what the scripts publish; close it."""
        return PubSub(self.redis.connection_pool)

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
        wanted = [argument(value) for value in dataclasses.astuple(only)]
        behind = after or ""
        time_s = _created_at(behind) if behind else 0.0
        looks: list[Look] = []
        while True:
            left = limit + 1 - len(looks)
            behind, *found = self.scripts("page", owner, behind, time_s, left, order, *wanted)
            looks += map(look_of, found)
            if len(looks) > limit or not behind:
                return Page(tuple(looks[:limit]), len(looks) > limit)
            time_s = _created_at(behind)


def _created_at(job_id: str) -> float:
    """Unix seconds, from the ULID in the id."""
    try:
        return ULID.from_str(job_id.partition("_")[2]).timestamp
    except ValueError:
        raise NotFound(f"no job {job_id!r}") from None
