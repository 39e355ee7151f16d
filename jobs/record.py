"""The durable record around a request: frozen plain data with encode and decode.

In Redis a job is one hash, `<prefix>job:<id>`, whose fields are this record's: strings as they are,
numbers in decimal, composites as JSON, None left out. The Lua scripts change single fields.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from ulid import ULID

from jobs.states import State
from pipeline.request import Request

SCHEMA = 1


class Artifact(BaseModel):
    """One finished file of a job."""

    model_config = ConfigDict(frozen=True)

    kind: str
    """video or image; of a video also thumbnail and spritesheet, each after its video."""
    key: str
    """Where it lies in the artifact store: jobs/<id>/<fence>/<file>."""
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    num_frames: int
    fps: int
    seed: int


class JobError(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str


class Progress(BaseModel):
    """Where a running job stands: step of steps within a stage of one of its outputs."""

    model_config = ConfigDict(frozen=True)

    stage: str
    step: int
    steps: int
    item: int = 0
    """The output, from 0."""
    items: int = 1


class CheckpointFile(BaseModel):
    """One stored file of a checkpoint."""

    model_config = ConfigDict(frozen=True)

    key: str
    size_bytes: int
    sha256: str


class Checkpoint(BaseModel):
    """Where the next attempt may go on: `step` of `steps` of an output are done."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Its own files are `<name>.json` and `<name>.safetensors`; the others are finished outputs."""
    item: int
    """The output, from 0."""
    step: int
    steps: int
    folder: str
    """Where its own files lie, below jobs/ in the artifact store."""
    files: tuple[CheckpointFile, ...]


class Resumed(BaseModel):
    """What came of the checkpoint that an attempt was given."""

    model_config = ConfigDict(frozen=True)

    item: int
    step: int
    """0: it was of no use."""
    steps: int
    refused: str = ""
    """Why, in words."""


class Usage(BaseModel):
    """What a finished job cost."""

    model_config = ConfigDict(frozen=True)

    device_s: float
    """Seconds from Run to Done times the gang's devices."""
    peak_memory_bytes: int
    timings_s: dict[str, float]
    """Seconds by stage, of the attempt that finished."""
    started_at: float
    """Unix seconds when rank 0 began."""
    ended_at: float
    """Unix seconds when rank 0 had its last file closed."""


class Job(BaseModel):
    """The record; times are unix seconds.

    `fence` is set while a worker holds the job: attempt + random nonce, the right to write.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    schema_version: int = SCHEMA
    owner: str
    state: State = State.QUEUED
    request: Request
    priority: int = 0
    created_at: float
    started_at: float | None = None
    """When the running or last attempt was claimed."""
    completed_at: float | None = None
    """When the job reached its terminal state, whichever it is."""
    expires_at: float | None = None
    """When a finished job's record and files are removed."""
    attempt: int = 0
    fence: str = ""
    beat: int = 0
    release: int = 0
    """Number of the last release; a claim must bring it."""
    failures: int = 0
    lost: int = 0
    worker: str = ""
    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    """The newest; gone once the job has ended."""
    resumed: Resumed | None = None
    """Where the running or last attempt went on; None: at the beginning, as it was to."""
    artifacts: tuple[Artifact, ...] = ()
    error: JobError | None = None
    usage: Usage | None = None
    webhook_url: str | None = None
    webhook_events: tuple[State, ...] = ()
    """The states whose beginning is told there; empty: the terminal ones."""
    remixed_from: str | None = None
    """The job whose request this one took, with another prompt."""
    retry_of: str | None = None
    """The failed or cancelled job that this one repeats."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """The client's own notes; nothing here reads them."""
    retention_s: int | None = None
    """How long it is kept once finished, where the client says so."""
    max_waiting_s: int | None = None
    """It fails unless its first try has begun within this time."""
    max_running_s: int | None = None
    """It fails when the gang computes one try of it for longer."""
    request_id: str = ""
    """Of the HTTP request that made it."""
    traceparent: str | None = None
    """Of that request's span, where tracing is on."""

    @property
    def kind(self) -> str:
        """Video or image: what the client asked for, also the id's first part."""
        return self.id.partition("_")[0]

    @property
    def model(self) -> str:
        """The served model's name; also the name of its Celery queue's suffix."""
        return self.request.model


def new_id(kind: str = "video") -> str:
    """A fresh id: kind + ULID, sortable by time, safe in paths."""
    return f"{kind}_{ULID()}"


def new_nonce() -> str:
    """The random part of a fence."""
    return secrets.token_hex(4)


_COMPOSITE: dict[str, TypeAdapter[Any]] = {
    "request": TypeAdapter(Request),
    "progress": TypeAdapter(Progress),
    "checkpoint": TypeAdapter(Checkpoint),
    "resumed": TypeAdapter(Resumed),
    "artifacts": TypeAdapter(tuple[Artifact, ...]),
    "error": TypeAdapter(JobError),
    "usage": TypeAdapter(Usage),
    "metadata": TypeAdapter(dict[str, str]),
    "webhook_events": TypeAdapter(tuple[State, ...]),
}


def encode(job: Job) -> dict[str, str]:
    """The hash's fields."""
    return {
        name: _COMPOSITE[name].dump_json(value).decode() if name in _COMPOSITE else str(value)
        for name, value in job
        if value not in (None, (), {})
    }


def decode(fields: Mapping[str, str]) -> Job:
    """The record from the hash's fields; fields that this version does not know are left out."""
    data: dict[str, Any] = dict(fields)  # the model leaves out what it does not know
    for name, adapter in _COMPOSITE.items():
        if name in data:
            data[name] = adapter.validate_json(data[name])
    return Job.model_validate(data)
