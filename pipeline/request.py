"""What a client asks for, once: the same classes validate HTTP, Python and what the gang runs.

`Params` is the client's own wording, every field optional but the prompt. `resolve` fills it from
the served model's card, checks it against the card's limits and gives a `Request`: complete,
frozen, torch-free, and the only thing that a gang ever sees.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from pipeline.limits import ModelCard, RequestError

Workload = Literal["t2v", "i2v", "t2i", "i2i"]
"""What is made of what: text (t) or images (i) to a video (v) or an image (i)."""

ImageFormat = Literal["png", "jpeg", "webp"]

Fidelity = Literal["exact", "lossless", "bounded"]
"""How far shortcuts may go: none; only those that keep every bit; also those that stay within a stated
bound of the exact result (docs/TUNING.md)."""

INPUTS = "inputs"
"""The folder of a run's directory where its input images lie, named as in `Request.images`."""

ImageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A file name that is safe in paths and keys."""

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
    guidance_scale_2: Float | None = None
    """For the low-noise steps of a model with two experts."""
    seed: Int | None = Field(default=None, ge=0, le=MAX_SEED)
    num_outputs: Int = 1
    output_format: ImageFormat | None = None
    """Of an image; a video is always MP4."""
    fidelity: Fidelity = "exact"

    @model_validator(mode="after")
    def _one_of_each_pair(self) -> Self:
        if self.size is not None and (self.width is not None or self.height is not None):
            raise RequestError("size", self.size, "must not be given beside width and height")
        if self.seconds is not None and self.num_frames is not None:
            raise RequestError("seconds", self.seconds, "must not be given beside num_frames")
        return self


class Request(BaseModel):
    """One generation, complete: every value that decides the output's bytes is in it."""

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
    guidance_scale_2: float | None = None
    """For the low-noise steps of a model with two experts; None has only one scale."""
    seed: int
    """Of the first output; each further one counts one up."""
    images: tuple[ImageName, ...] = ()
    """Names of input images in the run's folder `INPUTS`, in order."""
    num_outputs: int = 1
    output_format: ImageFormat = "png"
    """Of an image; a video is always MP4."""
    fidelity: Fidelity = "exact"

    @property
    def makes_image(self) -> bool:
        """Whether the output is an image rather than a video."""
        return self.num_frames == 1

    @property
    def suffix(self) -> str:
        """Of the output's file name."""
        if not self.makes_image:
            return ".mp4"
        return ".jpg" if self.output_format == "jpeg" else f".{self.output_format}"

    @property
    def strongest_guidance(self) -> float:
        """The largest guidance scale of any step; 1 or less: no step is guided."""
        return max(self.guidance_scale, self.guidance_scale_2 or 0.0)

    def outputs(self) -> tuple[Request, ...]:
        """Split into one complete request for each output: seeds count up, nothing else differs."""
        return tuple(
            self.model_copy(update={"seed": self.seed + index, "num_outputs": 1})
            for index in range(self.num_outputs)
        )

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
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise RequestError(field, first["input"], message[:1].lower() + message[1:]) from None


def resolve(params: Params, card: ModelCard, images: Sequence[str] = ()) -> Request:
    """Fill `params` from the card's defaults, check them against its limits, draw a missing seed.

    One frame is an image. Frames from seconds: 4 * floor(seconds * fps / 4) + 1 for a card whose
    frames go by 4.

    Args:
        params: the client's words.
        card: of the model that is to serve them.
        images: names of the input images, as `Request.images` has them.

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
    if params.output_format is not None and num_frames > 1:
        raise RequestError(
            "output_format", params.output_format, "is for images; a video is always MP4"
        )
    request = Request(
        model=card.name,
        workload=_workload(num_frames, images),
        prompt=params.prompt.strip(),
        negative_prompt=params.negative_prompt or "",
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        num_inference_steps=_or(params.num_inference_steps, card.num_inference_steps),
        guidance_scale=_or(params.guidance_scale, card.guidance_scale),
        guidance_scale_2=_or(params.guidance_scale_2, card.guidance_scale_2),
        seed=_or(params.seed, secrets.randbelow(2**32)),
        images=tuple(images),
        num_outputs=params.num_outputs,
        output_format=_or(params.output_format, "png"),
        fidelity=params.fidelity,
    )
    try:
        check(request, card)
    except RequestError as error:
        if params.size is None or error.field not in ("width", "height"):
            raise
        raise RequestError("size", params.size, f"{error.allowed} in {error.field}") from None
    return request


def check(request: Request, card: ModelCard) -> None:
    """Hold a complete request against a card's limits.

    Raises:
        RequestError: naming field, value and limit.
    """
    _check_workload(request, card)
    for field in ("prompt", "negative_prompt"):
        text = getattr(request, field)
        if len(text) > card.max_prompt_chars:
            raise RequestError(
                field,
                len(text),
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
    if request.guidance_scale_2 is not None:
        if card.guidance_scale_2 is None:
            raise RequestError(
                "guidance_scale_2",
                request.guidance_scale_2,
                f"is for models with two experts; {card.name} has one",
            )
        card.check("guidance_scale_2", request.guidance_scale_2, 0, card.max_guidance_scale)
    card.check("num_outputs", request.num_outputs, 1, card.max_outputs)
    card.check("seed", request.seed, 0, MAX_SEED - request.num_outputs + 1)


def _workload(num_frames: int, images: Sequence[str]) -> Workload:
    if num_frames > 1:
        return "i2v" if images else "t2v"
    return "i2i" if images else "t2i"


def _check_workload(request: Request, card: ModelCard) -> None:
    count = len(request.images)
    if count > card.max_images:
        most = f"may be given at most {card.max_images} times with {card.name}"
        raise RequestError("image", count, most)
    if request.workload in card.workloads:
        return
    served = ", ".join(card.workloads)
    if not count and _workload(request.num_frames, ("image",)) in card.workloads:
        raise RequestError("image", None, f"is required: {card.name} serves {served}")
    raise RequestError(
        "num_frames", request.num_frames, f"makes {request.workload}; {card.name} serves {served}"
    )


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
