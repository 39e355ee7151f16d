"""Input images of a Python caller, on their way to a gang: files in a folder, named in order.

Torch-free. What they hold is looked at here, once, and again in the ranks.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.inputs import names_of
from pipeline.limits import ModelCard, RequestError
from pipeline.media.picture import open_image

ImageInput = Any
"""A path, a PIL image, or an array, uint8 [height, width, 3]."""


def as_list(image: ImageInput | Sequence[ImageInput] | None) -> list[ImageInput]:
    """None, one image or several as a list."""
    if image is None:
        return []
    return list(image) if isinstance(image, list | tuple) else [image]


def write_inputs(images: Sequence[ImageInput], folder: Path, card: ModelCard) -> None:
    """Make `folder` with the images in it, under `names_of(images)`.

    Raises:
        RequestError: something that is no image, that cannot be read, or that the model does not take.
    """
    folder.mkdir()
    for name, image in zip(names_of(images), images, strict=True):
        if isinstance(image, str | Path):
            _copy(Path(image).expanduser(), folder / name)
            given = str(image)
        else:
            _save(image, folder / name)
            given = type(image).__name__
        try:
            open_image(folder / name, card)
        except RequestError as error:
            value = given if error.value is None else f"{given}: {error.value}"
            raise RequestError(error.field, value, error.allowed) from None


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise RequestError("image", str(source), f"cannot be read: {error.strerror}") from None


def _save(image: ImageInput, target: Path) -> None:
    if not isinstance(image, Image.Image):
        try:
            image = Image.fromarray(image)
        except (AttributeError, TypeError, ValueError):
            raise RequestError(
                "image", type(image).__name__, "must be a path, a PIL image or uint8 [H, W, 3]"
            ) from None
    try:
        image.save(target, format="PNG")
    except OSError:
        raise RequestError(
            "image", f"a PIL image of mode {image.mode}", "must be of a mode that PNG has, as RGB"
        ) from None
