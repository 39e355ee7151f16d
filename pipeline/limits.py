"""A served model's limits and defaults as data: the model card.

Rank 0 builds it from the family and the model's own config and sends it in Ready; the worker stores
it in Redis; the API validates against it without ever loading a model.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RequestError(Exception):
    """A value that a request may not have: field, value and what is allowed.

    Deliberately no ValueError, so that pydantic lets it through unwrapped.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        got = "" if value is None else f", got {_short(value)}"
        super().__init__(f"{field} {allowed}{got}")


class ModelCard(BaseModel):
    """Defaults and limits of one served model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    workloads: tuple[str, ...]

    width: int
    """Default, pixels."""
    height: int
    """Default, pixels."""
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float | None = None
    """Of the low-noise steps; None: the model has one expert."""

    max_width: int
    max_height: int
    max_num_frames: int
    max_fps: int = 60
    max_num_inference_steps: int = 100
    max_guidance_scale: float = 20.0
    max_prompt_chars: int = 4000
    max_outputs: int = 4
    max_images: int = 0
    """Input images of one request."""
    max_image_pixels: int = 2**26
    """Of one input image, before it is fitted to the output: 8192x8192."""
    min_image_side: int = 1
    """The least width and height of an input image."""
    max_image_aspect: float | None = None
    """How many times as long as its shorter side the longer one may be; None: any."""
    size_multiple: int = 16
    """Width and height are multiples of it: the VAE's stride times the transformer's patch."""
    frame_step: int = 4
    """Frames are k times it plus one: the VAE's temporal stride."""

    def check(
        self, field: str, value: float, least: float, most: float, *, multiple_of: int | None = None
    ) -> None:
        """Hold one number against its bounds (both allowed).

        Raises:
            RequestError: naming field, value and limit.
        """
        if not least <= value <= most:
            raise RequestError(field, value, f"must be from {least:g} to {most:g}")
        if multiple_of is not None and value % multiple_of:
            raise RequestError(field, value, f"must be a multiple of {multiple_of}")

    def check_image(self, field: str, width: int, height: int) -> None:
        """Hold an input image's size against its bounds.

        Raises:
            RequestError: naming field, size and limit.
        """
        size = f"{width}x{height}"
        if width * height > self.max_image_pixels:
            raise RequestError(field, size, f"may have at most {self.max_image_pixels} pixels")
        if min(width, height) < self.min_image_side:
            least = self.min_image_side
            raise RequestError(field, size, f"must be at least {least}x{least}")
        aspect = self.max_image_aspect
        if aspect is not None and max(width, height) > aspect * min(width, height):
            raise RequestError(
                field, size, f"may be at most {aspect:g} times as long one way as the other"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
