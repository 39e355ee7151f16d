"""Every setting of the service, in one class: `RUSHES_<NAME>` in the environment.

What a model is and how its gangs run is not here but in `pipeline.options` (command line).
"""

from __future__ import annotations

import base64
import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.errors import SettingsError

LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """The service's settings; every role (api, relay, worker, flower, serve) reads the same."""

    model_config = SettingsConfigDict(
        env_prefix="RUSHES_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    home: Path = Path("~/.rushes")
    """Data of everything embedded: Redis, artifacts on disk, logs, attempts."""
    log_level: LogLevel = "info"
    """How much every process says."""

    host: str = "127.0.0.1"
    """Where the API listens."""
    port: int = Field(default=30000, ge=1, le=65535)
    """Where the API listens."""
    flower_host: str = "127.0.0.1"
    """Where the dashboard listens."""
    flower_port: int = Field(default=5555, ge=1, le=65535)
    """Where the dashboard listens."""
    flower_basic_auth: SecretStr | None = None
    """`user:password`; where flower_host is not loopback, this or Flower's own OAuth is required."""
    flower_read_only: bool = True
    """0 lets the dashboard act, its Revoke being a job's cancel; that too needs a password or OAuth."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Longest request body; beyond it 413."""
    body_s: float = Field(default=120.0, gt=0)
    """How long a request's body may take to arrive; beyond it 408."""

    image_urls: Literal["off", "public", "any"] = "off"
    """Whether an input image may be named by its URL: never, on public addresses, on private ones too."""

    public_url: str | None = None
    """Where clients reach the API, for links in answers. Omitted: as their requests name it."""
    open: bool = False
    """Serve everybody beyond loopback also while there are no API keys."""
    cors_origins: str = ""
    """Origins whose pages may call the API, comma-separated; `*` for all."""
    rate: str | None = None
    """New jobs that a caller may make, such as `60/minute`; an API key's own rate goes first."""
    max_wait_s: int = Field(default=60, ge=0)
    """Longest `Prefer: wait` that is honoured."""
    image_wait_s: int = Field(default=120, ge=1)
    """How long a create of an image waits for the image; beyond it 504."""
    max_streams: int = Field(default=500, ge=1)
    """Event streams and waiting answers that one API process holds; beyond it 503."""

    redis_url: str | None = None
    """`redis://`, `rediss://` (TLS) or `redis+sentinel://host:port,host:port/service/db`. Omitted:
    `serve` starts an embedded server and tells the others where it is."""
    durability: Literal["server", "replica", "power"] | None = None
    """What a client's answer waits for: the server, one replica too, or that it is on the disk of both.
    Omitted: a replica with Sentinels, else the server."""
    redis_prefix: str = "rushes:"
    """Before every key, so that services can share a server."""
    max_queued: int = Field(default=10_000, ge=1)
    """Jobs that may wait, all owners and models together; beyond it 429."""
    retention_s: int = Field(default=7 * 86400, ge=60)
    """How long a finished job's record and artifacts are kept."""

    max_waiting_s: int | None = Field(default=None, ge=1)
    """A job that has not started by then fails, or earlier, as its client says. Omitted: no limit."""
    max_running_s: int | None = Field(default=None, ge=1)
    """A job whose try computes for longer fails, or earlier, as its client says. Omitted: no limit."""

    beat_s: float = Field(default=2.0, gt=0)
    """A worker raises the beat of a job that it holds this often."""
    lease_s: float = Field(default=15.0, gt=0)
    """A job whose beat the relay saw unchanged for this long is requeued."""
    release_ttl_s: float = Field(default=5.0, gt=0)
    """A release that nobody claimed within this time returns to the order."""
    max_failures: int = Field(default=5, ge=1)
    """A job fails after this many tries that ended in a gang death or an error."""
    max_lost: int = Field(default=10, ge=1)
    """A job fails after this many tries that were lost with their worker."""
    preview_s: float = Field(default=1.0, ge=0)
    """Who watches a running job sees what is being made, this often at most; 0: never."""
    cancel_grace_s: float = Field(default=10.0, gt=0)
    """A gang that has not stopped a cancelled job by then is killed."""
    drain_s: float = Field(default=10.0, gt=0)
    """A worker told to stop hands back its job and is gone within this time."""
    checkpoint_s: float = Field(default=30.0, ge=0)
    """A running job leaves a checkpoint this often, to be gone on from after a fault; 0: not by time."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """The same after every so many denoising steps; 0: not by steps. Both 0: there are no checkpoints."""
    preempt_s: float = Field(default=0.0, ge=0)
    """A job with longer than this to go is paused, at a checkpoint, for a waiting one of higher
    priority that finds no free gang; 0: never."""
    gang_start_s: float = Field(default=900.0, gt=0)
    """A gang that is not Ready by then is killed and started again."""
    hang_least_s: float = Field(default=60.0, gt=0)
    """No step counts as hung before; else ten times what such a step took before."""
    hang_unseen_s: float = Field(default=1800.0, gt=0)
    """A step of a stage and shape never seen, or still to be compiled, counts as hung after this long."""
    store_retry_s: float = Field(default=3600.0, gt=0)
    """How long a job waits for the artifact storage while that is away; then it fails."""

    artifacts: Literal["disk", "s3"] = "disk"
    """Where finished files lie: under `home`, or in an S3 bucket."""
    s3_endpoint_url: str | None = None
    """Omitted: AWS."""
    s3_public_endpoint_url: str | None = None
    """Where clients reach the store; presigned links are made for it. Omitted: s3_endpoint_url."""
    s3_region: str = "us-east-1"
    """The region that requests are signed for."""
    s3_bucket: str | None = None
    """Must exist; required with `artifacts=s3`."""
    s3_prefix: str = ""
    """Before every key in the bucket."""
    s3_access_key_id: str | None = None
    """Omitted: boto3's own chain (profile, instance role, ...)."""
    s3_secret_access_key: SecretStr | None = None
    """Set both keys or neither."""
    s3_path_style: bool = True
    """`endpoint/bucket/key` rather than `bucket.endpoint/key`."""
    s3_link_s: int = Field(default=3600, ge=1, le=7 * 86400)
    """Lifetime of a presigned link."""

    webhook_secret: SecretStr | None = None
    """`whsec_` + base64 of 24 to 64 bytes; required for requests that name a webhook_url. Several,
    separated by spaces or commas, newest first, sign while receivers change from one to the next. Each
    API key's webhooks are signed with a secret made of it: `rushes keys webhook-secret`."""
    webhook_private: bool = False
    """Allow webhook targets on private, loopback and link-local addresses."""
    webhook_timeout_s: float = Field(default=20.0, gt=0, le=60)
    """How long a receiver may take to answer."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.lease_s < 3 * self.beat_s:
            raise ValueError(
                f"RUSHES_LEASE_S {self.lease_s:g} must be at least three beats: raise it to "
                f"{3 * self.beat_s:g} or lower RUSHES_BEAT_S {self.beat_s:g}"
            )
        if self.hang_unseen_s < self.hang_least_s:
            raise ValueError(
                f"RUSHES_HANG_UNSEEN_S {self.hang_unseen_s:g} must be at least RUSHES_HANG_LEAST_S "
                f"{self.hang_least_s:g}"
            )
        if self.preempt_s and not (self.checkpoint_s or self.checkpoint_steps):
            raise ValueError(
                "RUSHES_PREEMPT_S pauses jobs at a checkpoint: set RUSHES_CHECKPOINT_S or "
                "RUSHES_CHECKPOINT_STEPS too"
            )
        if self.artifacts == "s3" and not self.s3_bucket:
            raise ValueError("RUSHES_ARTIFACTS=s3 needs a bucket: set RUSHES_S3_BUCKET")
        if self.rate is not None:
            try:
                check_rate(self.rate)
            except ValueError as error:
                raise ValueError(f"RUSHES_RATE: {error}") from None
        if self.flower_basic_auth is not None:
            user, _, password = self.flower_basic_auth.get_secret_value().partition(":")
            if not (user and password):
                raise ValueError("RUSHES_FLOWER_BASIC_AUTH must read user:password")
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError(
                "set both RUSHES_S3_ACCESS_KEY_ID and RUSHES_S3_SECRET_ACCESS_KEY, or neither"
            )
        if self.webhook_secret is not None and not (
            self.webhook_secrets and all(map(_is_webhook_secret, self.webhook_secrets))
        ):
            raise ValueError(
                "RUSHES_WEBHOOK_SECRET must be whsec_ and the base64 of 24 to 64 random bytes, such as "
                "`echo whsec_$(openssl rand -base64 32)` makes"
            )
        return self

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """What webhooks are signed with, the newest first."""
        if self.webhook_secret is None:
            return ()
        return tuple(self.webhook_secret.get_secret_value().replace(",", " ").split())

    @property
    def home_path(self) -> Path:
        """`home` with ~ expanded, absolute."""
        return self.home.expanduser().absolute()


def check_rate(text: str) -> str:
    """`text`, if `limits` can read it.

    Raises:
        ValueError: it cannot.
    """
    import limits  # 0.1 s: only those pay who use it

    try:
        limits.parse(text)
    except ValueError:
        raise ValueError(f"a rate must read like 60/minute, got {text!r}") from None
    return text


def _is_webhook_secret(text: str) -> bool:
    """Whether it has the form that Standard Webhooks gives symmetric secrets."""
    head, _, encoded = text.partition("whsec_")
    try:
        return not head and 24 <= len(base64.b64decode(encoded, validate=True)) <= 64
    except ValueError:
        return False


def _check_names(names: Iterable[str]) -> None:
    """Refuse what looks like a setting and is none: a slip of the pen would pass in silence."""
    known = [f"RUSHES_{name.upper()}" for name in Settings.model_fields]
    for name in sorted(names):
        if name.upper().startswith("RUSHES_") and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0)
            raise SettingsError(f"{name} is no setting: did you mean {near[0]}?")


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` (from the command line) win where not None.

    Raises:
        SettingsError: one line naming the variable and how to fix it.
    """
    _check_names(os.environ)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            name = f"RUSHES_{str(first['loc'][0]).upper()}"
            message = f"{name}: {message[:1].lower()}{message[1:]}, got {first['input']!r}"
        raise SettingsError(message) from None
