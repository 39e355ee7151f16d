"""Input images as clients send them: what they are is read from their first bytes, never decoded here.

Decoding is the ranks' business; what passes here and cannot be decoded fails the job by name.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import imagesize

from pipeline.limits import ModelCard, RequestError

HEAD_BYTES = 2**20
"""Where a JPEG must have told its size by; cameras put previews and depth maps before it."""

_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class InputImage:
    """A checked image, as it came."""

    data: bytes = field(repr=False)
    content_type: str


def check_image(data: bytes, field: str, card: ModelCard) -> InputImage:
    """Hold an image's first bytes against what a model takes.

    Args:
        data: the whole file.
        field: the client's word for it.
        card: of the model that is to take it.

    Raises:
        RequestError: no PNG, JPEG or WebP, a broken header, or a size that the model does not take.
    """
    if not data:
        raise RequestError(field, None, "is an empty file: it must be a PNG, JPEG or WebP image")
    content_type = _content_type(data)
    if content_type is None:
        raise RequestError(field, None, "must be a PNG, JPEG or WebP image")
    # Unlike the library's other functions this one raises nothing.
    width, height = imagesize.get(io.BytesIO(data[:HEAD_BYTES]), exif_rotation=False)
    if width <= 0 or height <= 0:
        kind = content_type.removeprefix("image/")
        raise RequestError(field, None, f"is broken: its {kind} header tells no size")
    card.check_image(field, width, height)
    return InputImage(data, content_type)


def _content_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
