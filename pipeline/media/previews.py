"""Thumbnail and spritesheet of a video, made of the frames as they pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.gang.protocol import SideFile
from pipeline.media.output import whole, writing

THUMBNAIL_PIXELS = 512
"""Longest side."""
SPRITE_PIXELS = 240
"""Longest side of one picture of the sheet."""
SPRITES = 16
"""At most, evenly over the video, row by row."""


class Previews:
    """The pictures of one video; its middle frame is the thumbnail."""

    def __init__(self, num_frames: int) -> None:
        """The video's frames in all."""
        count = min(SPRITES, num_frames)
        self._sprites_at = {round(at) for at in np.linspace(0, num_frames - 1, count)}
        self._thumbnail_at = num_frames // 2
        self._sprites: list[Image.Image] = []
        self._thumbnails: list[Image.Image] = []

    def watch(self, chunks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Pass `chunks` on, uint8 [frames, height, width, 3], and keep what is wanted of them."""
        index = 0
        for chunk in chunks:
            for frame in chunk:
                if index in self._sprites_at:
                    self._sprites.append(_shrunk(frame, SPRITE_PIXELS))
                if index == self._thumbnail_at:
                    self._thumbnails.append(_shrunk(frame, THUMBNAIL_PIXELS))
                index += 1
            yield chunk

    def write(self, video: Path) -> tuple[SideFile, ...]:
        """Write both beside `video`, once every frame has passed.

        Raises:
            OutputError: the system refused to write.
        """
        (thumbnail,) = self._thumbnails
        return (
            _save(thumbnail, video, "thumbnail", "webp", quality=85),
            _save(self._sheet(), video, "spritesheet", "jpeg", quality=85),
        )

    def _sheet(self) -> Image.Image:
        columns = math.ceil(math.sqrt(len(self._sprites)))
        rows = math.ceil(len(self._sprites) / columns)
        width, height = self._sprites[0].size
        sheet = Image.new("RGB", (columns * width, rows * height))
        for index, sprite in enumerate(self._sprites):
            sheet.paste(sprite, (index % columns * width, index // columns * height))
        return sheet


def _shrunk(frame: NDArray[np.uint8], longest: int) -> Image.Image:
    image = Image.fromarray(frame)
    image.thumbnail((longest, longest))
    return image


def _save(
    picture: Image.Image,
    video: Path,
    kind: Literal["thumbnail", "spritesheet"],
    form: Literal["webp", "jpeg"],
    quality: int,
) -> SideFile:
    file = video.with_name(f"{video.stem}-{kind}.{'jpg' if form == 'jpeg' else form}")
    with whole(file) as part, writing(file):
        picture.save(part, format=form.upper(), quality=quality)
    return SideFile(
        kind=kind,
        file=file.name,
        content_type=f"image/{form}",
        size_bytes=file.stat().st_size,
        width=picture.width,
        height=picture.height,
    )
