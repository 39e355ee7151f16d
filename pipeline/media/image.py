"""One frame as PNG, JPEG or WebP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.media.output import whole, writing
from pipeline.request import ImageFormat

QUALITY: dict[ImageFormat, dict[str, Any]] = {
    "png": {},
    # Above 95 JPEG grows without looking better, says Pillow; full chroma, as PNG has it.
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "webp": {"quality": 95, "method": 4},
}
"""Pillow's options; PNG is exact, the others look it."""


def write_image(file: Path, frame: NDArray[np.uint8], kind: ImageFormat = "png") -> str:
    """Write `frame`, uint8 [height, width, 3]; returns the content type.

    Raises:
        OutputError: the system refused to write.
    """
    with whole(file) as part, writing(file):
        Image.fromarray(frame).save(part, format=kind.upper(), **QUALITY[kind])
    return f"image/{kind}"
