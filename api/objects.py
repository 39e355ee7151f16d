"""What the API answers, as models: /openapi.json is made from them, and tests hold answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.states import State
from pipeline.request import Fidelity, ImageFormat


class Answer(BaseModel):
    """Base of all: no field that is not named here."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class JobErrorObject(Answer):
    """Why a job failed."""

    code: str
    message: str


class UsageObject(Answer):
    """What a finished job cost."""

    device_s: float
    peak_memory_bytes: int
    timings_s: dict[str, float]


class ArtifactObject(Answer):
    """A finished file."""

    kind: Literal["video", "image", "thumbnail", "spritesheet"]
    index: int
    """Of the output, from 0."""
    content_type: str
    size_bytes: int
    width: int
    height: int
    seed: int
    url: str
    """Below the API's address."""


class JobUrls(Answer):
    """Where to go on, below the API's address."""

    self: str
    events: str
    content: str | None


class JobObject(Answer):
    """OpenAI's Video object with more beside it; an image job has the same fields."""

    id: str
    object: Literal["video", "image"]
    created_at: int
    started_at: int | None
    completed_at: int | None
    expires_at: int | None
    status: State
    progress: int = Field(ge=0, le=100)
    stage: str | None
    step: int | None
    steps: int | None
    attempt: int
    resumed_from_step: int | None
    """Where this attempt went on from a checkpoint; 0: the checkpoint was of no use."""
    resume_refused: str | None
    """Why."""
    priority: int
    max_waiting_s: int | None
    max_running_s: int | None
    queue_position: int | None
    """Among one's own waiting jobs of that model and priority, from 1."""
    eta_s: float | None
    """Seconds until it is done, an estimate."""
    error: JobErrorObject | None
    model: str
    prompt: str
    negative_prompt: str
    seconds: str
    size: str
    width: int
    height: int
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    """Of the low-noise steps of a model with two experts."""
    fidelity: Fidelity
    seed: int
    """Of the first output; each further one counts one up."""
    num_outputs: int
    output_format: ImageFormat | None
    """Of an image; a video is always MP4."""
    remixed_from_video_id: str | None
    retry_of: str | None
    metadata: dict[str, str]
    request_id: str | None
    usage: UsageObject | None
    peak_memory_mb: float | None
    urls: JobUrls
    artifacts: list[ArtifactObject]

    # The job object grows with the pipeline; what is not named here is allowed.
    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class JobList(Answer):
    """One page of jobs."""

    object: Literal["list"]
    data: list[JobObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Answer):
    """A job that is no more."""

    id: str
    object: Literal["video.deleted", "image.deleted"]
    deleted: Literal[True]


class ImageObject(Answer):
    """One image: a link to it, or its bytes."""

    url: str | None
    b64_json: str | None
    seed: int


class Images(Answer):
    """OpenAI's ImagesResponse, with the job's id."""

    id: str
    created: int
    data: list[ImageObject]
    output_format: str
    size: str


class WebhookAttempt(Answer):
    """One try to deliver."""

    at: float
    """Unix seconds."""
    status: int | None
    """Of the receiver's answer."""
    error: str | None
    duration_ms: int


class WebhookDelivery(Answer):
    """A webhook event and the last attempts to deliver it."""

    webhook_id: str
    object: Literal["webhook.delivery"]
    type: str
    url: str
    created_at: int
    status: Literal["pending", "delivered", "failed", "disabled"]
    """failed: given up; disabled: the receiver said 410."""
    next_attempt_at: int | None
    attempts: list[WebhookAttempt]


class WebhookDeliveries(Answer):
    """A job's webhook events, oldest first."""

    object: Literal["list"]
    data: list[WebhookDelivery]


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="allow")

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(Answer):
    """Every error."""

    error: Problem


class ModelObject(Answer):
    """A served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    names: list[str]
    family: str | None
    workloads: list[str] | None
    defaults: dict[str, Any]
    limits: dict[str, Any]
    live_gangs: int


class ModelList(Answer):
    """What is served, the default model first."""

    object: Literal["list"]
    data: list[ModelObject]


class ModelInfo(ModelObject):
    """One model and where it came from."""

    model_path: str
