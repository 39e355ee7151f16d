"""One frame as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.media.output import whole, writing

CONTENT_TYPE = "image/png"


def write_image(file: Path, frame: NDArray[np.uint8]) -> None:
    """Write `frame`, uint8 [height, width, 3].

    Raises:
        OutputError: the system refused to write.
    """
    with whole(file) as part, writing(file):
        Image.fromarray(frame).save(part, format="PNG")
