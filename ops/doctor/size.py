"""How long a sequence a size makes, from a model's configs alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.limits import RequestError

VIDEO_FRAMES = 81
"""Of a video when nobody says."""


@dataclass(frozen=True)
class Size:
    """What is to be made."""

    width: int
    height: int
    num_frames: int | None = None
    """None: `VIDEO_FRAMES`, of an image model 1."""

    def tokens(self, directory: Path, transformer: dict[str, Any]) -> int | None:
        """Length of the sequence; None where the model tells no geometry.

        Args:
            directory: a Diffusers directory.
            transformer: its transformer's config.

        Raises:
            RequestError: a size that the model cannot make.
        """
        file = directory / "vae" / "config.json"
        if not file.exists():
            return None
        vae: dict[str, Any] = json.loads(file.read_text())
        patch: list[int] | int | None = transformer.get("patch_size")
        if isinstance(patch, list):
            return self._of_video(vae, patch)
        if "block_out_channels" in vae:
            return self._of_image(vae)
        return None

    def _of_video(self, vae: dict[str, Any], patch: list[int]) -> int:
        time: int = vae.get("scale_factor_temporal", 4)
        space: int = vae.get("scale_factor_spatial", 8)
        rows = _share("height", self.height, space * patch[1])
        columns = _share("width", self.width, space * patch[2])
        frames = VIDEO_FRAMES if self.num_frames is None else self.num_frames
        if frames < 1 or (frames - 1) % time:
            below = max(1, frames - (frames - 1) % time)
            near = f"{below} or {below + time}"
            raise RequestError("num_frames", frames, f"must be {time}k+1, such as {near}")
        return ((frames - 1) // time + 1) // patch[0] * rows * columns

    def _of_image(self, vae: dict[str, Any]) -> int:
        """Latent pixels, patched two by two as FLUX.2 has it."""
        pixels: int = 2 ** len(vae["block_out_channels"])
        if self.num_frames not in (None, 1):
            raise RequestError("num_frames", self.num_frames, "must be 1: the model makes images")
        return _share("height", self.height, pixels) * _share("width", self.width, pixels)


def _share(field: str, value: int, multiple: int) -> int:
    if value < multiple or value % multiple:
        below = max(multiple, value // multiple * multiple)
        near = f"{below} or {below + multiple}"
        raise RequestError(field, value, f"must be a multiple of {multiple}, such as {near}")
    return value // multiple
