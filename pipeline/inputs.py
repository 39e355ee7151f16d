"""Input images of a Python caller, on their way to a gang: files in a folder, named in order.

Torch-free. What the files hold is looked at in the ranks.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.limits import RequestError

ImageInput = Any
"""A path, a PIL image, or an array, uint8 [height, width, 3]."""


def as_list(image: ImageInput | Sequence[ImageInput] | None) -> list[ImageInput]:
    """None, one image or several as a list."""
    if image is None:
        return []
    return list(image) if isinstance(image, list | tuple) else [image]


def names_of(images: Sequence[ImageInput]) -> tuple[str, ...]:
    """The files' names, as `Request.images` has them."""
    return tuple(f"image-{number}" for number in range(1, len(images) + 1))


def write_inputs(images: Sequence[ImageInput], folder: Path) -> None:
    """Make `folder` with the images in it, under `names_of(images)`.

    Raises:
        RequestError: something that is no image, or a file that cannot be read.
    """
    folder.mkdir()
    for name, image in zip(names_of(images), images, strict=True):
        if isinstance(image, str | Path):
            _copy(Path(image).expanduser(), folder / name)
        else:
            _save(image, folder / name)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise RequestError("image", str(source), f"cannot be read: {error.strerror}") from None


def _save(image: ImageInput, target: Path) -> None:
    from PIL import Image

    if not isinstance(image, Image.Image):
        try:
            image = Image.fromarray(image)
        except (AttributeError, TypeError, ValueError):
            raise RequestError(
                "image", type(image).__name__, "must be a path, a PIL image or uint8 [H, W, 3]"
            ) from None
    image.save(target, format="PNG")
