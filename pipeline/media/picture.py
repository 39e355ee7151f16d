"""Input images: files of anybody, opened with care."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.limits import ModelCard, RequestError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow may try; each further decoder would be one more way in for a hostile file."""


def open_image(file: Path, card: ModelCard) -> Image.Image:
    """Read the first frame of an image as RGB, turned as its EXIF orientation says.

    Its size is read from the header and held against the `card` before any pixel is decoded.

    Raises:
        RequestError: no image that can be read, or of a size that the model does not take.
    """
    try:
        return _read(file, card)
    except (RequestError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        allowed = f"may have at most {card.max_image_pixels} pixels"
        raise RequestError("image", None, allowed) from None
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise RequestError("image", None, f"must be an image: {known}") from None
    except Exception as error:  # noqa: BLE001 - Pillow lets out struct.error and others
        # A broken file, or none there; a job that has it would fail the same once more.
        reason = str(error).replace(str(file), file.name)
        raise RequestError("image", None, f"cannot be read: {reason}") from None


def _read(file: Path, card: ModelCard) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow's own bound comes first for images beyond it, as a warning or an error.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=FORMATS) as image:
            card.check_image("image", *image.size)
            return _as_rgb(ImageOps.exif_transpose(image))


def _as_rgb(image: Image.Image) -> Image.Image:
    """Of a grey picture with 16 bits a pixel Pillow itself would make white whatever is above 255."""
    if image.mode in ("I", "F"):
        raise RequestError("image", image.mode, "must have 8 or 16 bits a channel")
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda level: level * (1 / 257) + 0.5).convert("L")
    return image.convert("RGB")
