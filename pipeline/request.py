"""What a client asks for, once: the same classes validate HTTP, Python and what the gang runs.

`Params` is the client's own wording, every field optional but the prompt. `resolve` fills it from
the served model's card, checks it against the card's limits and gives a `Request`: complete,
frozen, torch-free, and the only thing that a gang ever sees.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from pipeline.limits import ModelCard, RequestError

Workload = Literal["t2v", "t2i"]

MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact


def _no_bool(value: object) -> object:
    """Pydantic's lax mode reads `true` as 1; nobody means that."""
    if isinstance(value, bool):
        raise PydanticCustomError("no_bool", "must be a number, not a boolean")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]


class Params(BaseModel):
    """A generation in the client's words. Numbers may come as strings: multipart has nothing else.

    `size` ("WxH") and `width` + `height` say the same, and so do `seconds` and `num_frames`; giving
    both of a pair is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    model: str | None = None
    negative_prompt: str | None = None
    size: str | None = None
    width: Int | None = None
    height: Int | None = None
    seconds: Float | None = Field(default=None, gt=0)
    num_frames: Int | None = None
    fps: Int | None = None
    num_inference_steps: Int | None = None
    guidance_scale: Float | None = None
    seed: Int | None = Field(default=None, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _one_of_each_pair(self) -> Self:
        if self.size is not None and (self.width is not None or self.height is not None):
            raise RequestError("size", self.size, "give either size or width and height, not both")
        if self.seconds is not None and self.num_frames is not None:
            raise RequestError(
                "seconds", self.seconds, "give either seconds or num_frames, not both"
            )
        return self


class Request(BaseModel):
    """One generation, complete: every value that decides the video's bytes is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """The served model's first name."""
    workload: Workload
    prompt: str
    negative_prompt: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    seed: int

    @property
    def size(self) -> str:
        """OpenAI's form, "WIDTHxHEIGHT"."""
        return f"{self.width}x{self.height}"

    @property
    def seconds(self) -> float:
        """Length of the video, seconds."""
        return self.num_frames / self.fps


P = TypeVar("P", bound=BaseModel)


def parse(kind: type[P], data: Mapping[str, Any]) -> P:
    """Validate a decoded body as `kind`.

    Raises:
        RequestError: naming the first bad field, its value and what is allowed.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        kind_of_error = first["type"]
        if kind_of_error == "missing":
            raise RequestError(field, None, "is required") from None
        if kind_of_error == "extra_forbidden":
            known = ", ".join(sorted(kind.model_fields))
            raise RequestError(
                field, first["input"], f"is unknown; known fields: {known}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(field, first["input"], message[:1].lower() + message[1:]) from None


def resolve(params: Params, card: ModelCard) -> Request:
    """Fill `params` from the card's defaults, check them against its limits, draw a missing seed.

    One frame is an image (`t2i`). Frames from seconds: 4 * floor(seconds * fps / 4) + 1 for a card
    whose frames go by 4.

    Raises:
        RequestError: a value outside the card's limits; nothing is rounded in silence.
    """
    width, height = _size(params, card)
    fps = card.fps if params.fps is None else params.fps
    card.check("fps", fps, 1, card.max_fps)
    if params.num_frames is not None:
        num_frames = params.num_frames
    elif params.seconds is not None:
        if params.seconds > card.max_num_frames / fps:
            longest = card.max_num_frames / fps
            raise RequestError(
                "seconds", params.seconds, f"must be at most {longest:g} at {fps} fps"
            )
        num_frames = card.frame_step * int(params.seconds * fps // card.frame_step) + 1
    else:
        num_frames = card.num_frames
    workload: Workload = "t2i" if num_frames == 1 else "t2v"
    request = Request(
        model=card.name,
        workload=workload,
        prompt=params.prompt.strip(),
        negative_prompt=params.negative_prompt or "",
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        num_inference_steps=_or(params.num_inference_steps, card.num_inference_steps),
        guidance_scale=_or(params.guidance_scale, card.guidance_scale),
        seed=_or(params.seed, secrets.randbelow(2**32)),
    )
    check(request, card)
    return request


def check(request: Request, card: ModelCard) -> None:
    """Hold a complete request against a card's limits.

    Raises:
        RequestError: naming field, value and limit.
    """
    if request.workload not in card.workloads:
        served = ", ".join(card.workloads)
        raise RequestError(
            "num_frames",
            request.num_frames,
            f"makes {request.workload}; {card.name} serves {served}",
        )
    for field in ("prompt", "negative_prompt"):
        text = getattr(request, field)
        if len(text) > card.max_prompt_chars:
            raise RequestError(
                field,
                f"{len(text)} characters",
                f"must have at most {card.max_prompt_chars} characters",
            )
    if not request.prompt:
        raise RequestError("prompt", request.prompt, "must not be empty")
    for field, limit in (("width", card.max_width), ("height", card.max_height)):
        card.check(
            field,
            getattr(request, field),
            card.size_multiple,
            limit,
            multiple_of=card.size_multiple,
        )
    card.check("num_frames", request.num_frames, 1, card.max_num_frames)
    if (request.num_frames - 1) % card.frame_step:
        step = card.frame_step
        below = request.num_frames - (request.num_frames - 1) % step
        raise RequestError(
            "num_frames",
            request.num_frames,
            f"must be {step}k+1, such as {below} or {below + step}",
        )
    card.check("fps", request.fps, 1, card.max_fps)
    card.check("num_inference_steps", request.num_inference_steps, 1, card.max_num_inference_steps)
    card.check("guidance_scale", request.guidance_scale, 0, card.max_guidance_scale)


T = TypeVar("T")


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _size(params: Params, card: ModelCard) -> tuple[int, int]:
    if params.size is None:
        return _or(params.width, card.width), _or(params.height, card.height)
    width, separator, height = params.size.partition("x")
    if not (
        separator and width.isascii() and width.isdigit() and height.isascii() and height.isdigit()
    ):
        raise RequestError("size", params.size, 'must read "WIDTHxHEIGHT", such as "832x480"')
    if len(width) > 6 or len(height) > 6:
        raise RequestError(
            "size", params.size, f"must be at most {card.max_width}x{card.max_height}"
        )
    return int(width), int(height)
