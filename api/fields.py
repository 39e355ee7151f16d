"""What clients may send: the models that validate it, and from which /openapi.json is made."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from api.given import Given, Several
from jobs.states import State
from pipeline.limits import RequestError
from pipeline.request import MAX_SEED, Float, ImageFormat, Int, Params

MAX_EXPIRES_S = 366 * 86400
Word = Annotated[str, Field(max_length=200)]


def _object(value: object) -> object:
    """Multipart has no objects: they come as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise PydanticCustomError("json_object", "must be a JSON object") from None


Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
    BeforeValidator(_object),
]


def _listed(value: object) -> object:
    """Multipart has no lists: they come as JSON text, or with commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise PydanticCustomError("json_list", "must be a list") from None
    return [each.strip() for each in value.split(",")]


def _flag(value: object) -> object:
    """Forms and queries have only text; pydantic's lax mode would also take 1, "yes" and "on"."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise PydanticCustomError("flag", "must be true or false")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]

Event = Literal[
    "video.in_progress", "video.completed", "video.failed", "video.cancelled",
    "image.in_progress", "image.completed", "image.failed", "image.cancelled",
]  # fmt: skip


class JobOptions(BaseModel):
    """What is said about the job and not about what it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    webhook_url: str | None = None
    """Called on the events that `webhook_events` names."""
    webhook_events: Annotated[tuple[Event, ...], BeforeValidator(_listed)] | None = None
    """The ends of the job when omitted; an empty list silences the API key's own webhook."""
    priority: Int = Field(default=0, ge=0, le=9)
    """Higher goes first, strictly; bounded by the API key's right."""
    metadata: Metadata | None = None
    """The client's own notes: up to 16 names of 64 characters, values of 512."""
    expires_after: Int | None = Field(default=None, ge=60, le=MAX_EXPIRES_S)
    """Seconds from the job's end until record and files are removed."""
    max_waiting_s: Int | None = Field(default=None, ge=1, le=MAX_EXPIRES_S)
    """The job fails with code `queue_timeout` unless it starts within this time."""
    max_running_s: Int | None = Field(default=None, ge=1, le=MAX_EXPIRES_S)
    """The job fails with code `run_timeout` when one try of it computes for longer."""
    user: Word | None = None
    """Accepted without effect: whose a job is, the API key says."""


class VideoBody(Params, JobOptions):
    """A new video."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    input_reference: Given | None = None
    """What the video begins with: PNG, JPEG or WebP, for models that take images."""
    quality: Word | None = None
    """Accepted without effect: `num_inference_steps` and `size` decide the quality."""


class RemixBody(JobOptions):
    """The old request with another prompt, the old seed too."""

    prompt: str


class RetryBody(JobOptions):
    """The old request once more; nothing is required."""


class DrainBody(BaseModel):
    """How a worker is drained; nothing is required."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    hand_back: Flag = False
    """Put the job that its gang computes back into the queue, rather than let it finish."""


class ImageBody(JobOptions):
    """A new image."""

    prompt: str
    model: str | None = None
    negative_prompt: str | None = None
    n: Int = Field(default=1, ge=1, le=10)
    """How many images, each with its own seed; the model may allow fewer."""
    size: str | None = None
    """`WIDTHxHEIGHT`, or `auto`."""
    width: Int | None = None
    height: Int | None = None
    num_inference_steps: Int | None = None
    guidance_scale: Float | None = None
    seed: Int | None = Field(default=None, ge=0, le=MAX_SEED)
    response_format: Literal["url", "b64_json"] = "url"
    output_format: ImageFormat = "png"
    background: Literal["auto", "opaque"] | None = None
    stream: Literal[False, "false"] | None = None
    output_compression: Int | None = Field(default=None, ge=0, le=100)
    """Accepted without effect: JPEG and WebP have the quality 95."""
    partial_images: Int | None = Field(default=None, ge=0, le=3)
    """Accepted without effect: nothing is streamed with the answer; `/events` has previews."""
    quality: Word | None = None
    """Accepted without effect, as are style, moderation and safety_identifier."""
    style: Word | None = None
    moderation: Word | None = None
    safety_identifier: Word | None = None

    @field_validator("size")
    @classmethod
    def _auto(cls, value: str | None) -> str | None:
        return None if value == "auto" else value

    def params(self) -> Params:
        """The same as a generation of one frame."""
        names = type(self).model_fields.keys() & Params.model_fields.keys()
        given = {name: getattr(self, name) for name in names}
        return Params(num_frames=1, num_outputs=self.n, **given)


class EditBody(ImageBody):
    """A new image made of others."""

    image: Several
    """PNG, JPEG or WebP, as many as the model takes."""
    input_fidelity: Word | None = None
    """Accepted without effect."""

    @model_validator(mode="before")
    @classmethod
    def _no_mask(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("mask") is not None:
            raise RequestError("mask", None, "is not supported: no served model paints in a mask")
        return data


class ListQuery(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    after: str | None = None
    limit: Int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"
    status: State | None = None
    model: str | None = None
    created_after: Float | None = None
    """Unix seconds."""
    created_before: Float | None = None
    """Unix seconds."""


class ContentQuery(BaseModel):
    """Which of a job's files."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    variant: Literal["video", "image", "thumbnail", "spritesheet"] = "video"
    """`video` stands for what the job has made, also if that is an image."""
    index: Int = Field(default=0, ge=0)
    """Which output of a job with several, from 0."""
    redirect: Flag = True
    """Whether the answer may be a redirect to the store; scripts of a page can seldom follow one."""


class ModelQuery(BaseModel):
    """Which served model; the default one when omitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str | None = None


def merged(body: dict[str, Any]) -> dict[str, Any]:
    """`body` with what other servers' clients put into `extra_body` (an object, or its JSON text).

    Raises:
        RequestError: `extra_body` is no object, or gives a field again.
    """
    if "extra_body" not in body:
        return body
    rest = {name: value for name, value in body.items() if name != "extra_body"}
    extra = body["extra_body"]
    if isinstance(extra, str):
        try:
            extra = json.loads(extra)
        except (ValueError, RecursionError):
            raise RequestError("extra_body", None, "must be a JSON object") from None
    if extra is None:
        return rest
    if not isinstance(extra, dict):
        raise RequestError("extra_body", extra, "must be a JSON object")
    for name in extra:
        if name in rest:
            raise RequestError(name, None, "must be given once, was also in extra_body")
    return rest | extra
