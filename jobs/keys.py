"""API keys: who may call, how much, and whose a job is.

A key reads `rk_<id>_<secret>`. The secret has 256 random bits, so one SHA-256 of it is all that is kept,
and the key itself is shown once. A job's owner is the id of the key that made it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator
from ulid import ULID

from jobs.connection import translated
from jobs.errors import NotFound
from jobs.held import Held
from jobs.settings import check_rate
from jobs.states import State
from jobs.store import JobStore
from jobs.submission import Quota

_KEY = re.compile(r"rk_([0-7][0-9A-HJKMNP-TV-Z]{25})_([A-Za-z0-9_-]{43})")

KEY_PREFIX = "key_"
"""Of the ids; owners that are no keys begin otherwise."""

Scope = Literal["user", "admin"]


class Rights(BaseModel):
    """What a key may; None: no limit of its own."""

    model_config = ConfigDict(frozen=True)

    scope: Scope = "user"
    max_priority: int = Field(default=0, ge=0, le=9)
    """The highest priority that its jobs may have."""
    rate: str | None = None
    """New jobs, such as `60/minute`."""
    max_running: int | None = Field(default=None, ge=1)
    """Jobs of it that run at the same time; more wait."""
    max_queued: int | None = Field(default=None, ge=1)
    """Jobs of it that wait; beyond it 429."""
    daily_device_s: float | None = Field(default=None, gt=0)
    """Device-seconds a UTC day."""

    webhook_url: str | None = None
    """Where events of its jobs go that name no webhook_url themselves."""
    webhook_events: tuple[State, ...] = ()
    """Which states are told there; empty: the terminal ones."""

    @field_validator("webhook_events", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        return value if value is None else check_rate(value)

    @property
    def quota(self) -> Quota:
        """What submit holds it to."""
        return Quota(max_queued=self.max_queued, daily_device_s=self.daily_device_s)


class ApiKey(Rights):
    """A key as it is kept."""

    id: str
    name: str = Field(max_length=200)
    digest: str
    """SHA-256 of the secret, hexadecimal."""
    created_at: float
    revoked_at: float | None = None


class Keys:
    """The keys in Redis. Every method raises `StoreUnavailable` when Redis does not answer.

    Args:
        hold_s: how long a look at a key holds; a revoked one works no longer than that.
    """

    def __init__(
        self, store: JobStore, *, hold_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._redis = store.redis
        self._hold_s = hold_s
        self._clock = clock
        self._looks: dict[str, Held[ApiKey | None]] = {}
        self._some = Held(self._exist, hold_s=hold_s, clock=clock)

    def create(self, name: str, rights: Rights) -> tuple[ApiKey, str]:
        """Make a key; the text is nowhere else."""
        ulid, secret = str(ULID()), secrets.token_urlsafe(32)
        key = ApiKey(
            **rights.model_dump(),
            id=f"{KEY_PREFIX}{ulid}",
            name=name,
            digest=_digest(secret),
            created_at=time.time(),
        )
        fields = [text for name, value in key if value is not None for text in (name, _text(value))]
        with translated():
            pipe = self._redis.pipeline()
            pipe.hset(self._store.key("key", key.id), items=fields)
            pipe.sadd(self._store.key("keys"), key.id)
            pipe.execute()
        return key, f"rk_{ulid}_{secret}"

    def list(self) -> tuple[ApiKey, ...]:
        """Every key, revoked ones too, oldest first."""
        with translated():
            ids = sorted(cast("set[str]", self._redis.smembers(self._store.key("keys"))))
        found = (self._read(key_id) for key_id in ids)
        return tuple(key for key in found if key is not None)

    def revoke(self, key_id: str) -> ApiKey:
        """Make a key worthless; its jobs go on.

        Raises:
            NotFound: no such key.
        """
        key = self._read(key_id)
        if key is None:
            raise NotFound(f"no key {key_id!r}")
        if key.revoked_at is None:
            with translated():
                self._redis.hset(self._store.key("key", key_id), "revoked_at", str(time.time()))
        return key

    def some(self) -> bool:
        """Whether a key was ever made: from then on, nobody gets in without one."""
        return self._some()

    def find(self, text: str) -> ApiKey | None:
        """The key that `text` is; None: none, or revoked."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        key = self._held(f"{KEY_PREFIX}{match[1]}")
        # Compared even where there is none, so that time tells nothing.
        right = hmac.compare_digest(key.digest if key else "", _digest(match[2]))
        return key if key is not None and right and key.revoked_at is None else None

    def _exist(self) -> bool:
        with translated():
            return bool(self._redis.exists(self._store.key("keys")))

    def _held(self, key_id: str) -> ApiKey | None:
        if key_id not in self._looks:
            if len(self._looks) > 1000:  # most of them made up
                self._looks.clear()
            read = partial(self._read, key_id)
            self._looks[key_id] = Held(read, hold_s=self._hold_s, clock=self._clock)
        return self._looks[key_id]()

    def _read(self, key_id: str) -> ApiKey | None:
        with translated():
            fields = cast("dict[str, str]", self._redis.hgetall(self._store.key("key", key_id)))
        return ApiKey.model_validate(fields) if fields else None


def _text(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
