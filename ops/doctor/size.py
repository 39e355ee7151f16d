"""How long a sequence a size makes, from a model's configs alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import reach
from pipeline.limits import RequestError
from pipeline.outline import read_config


@dataclass(frozen=True)
class Size:
    """What is to be made; None: what the directory's own card.json or else the family has."""

    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    """Of an image model 1."""

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
        card = read_config(directory / "card.json")
        own = {field: value for field, value in card.items() if isinstance(value, int)}
        if isinstance(transformer.get("patch_size"), list):
            index = read_config(directory / "model_index.json")
            return self._of_video(vae, transformer, index, own)
        if "block_out_channels" in vae:
            return self._of_image(vae, own)
        return None

    def _of_video(
        self,
        vae: Mapping[str, Any],
        transformer: Mapping[str, Any],
        index: Mapping[str, Any],
        own: Mapping[str, int],
    ) -> int:
        patch: list[int] = transformer["patch_size"]
        time: int = vae.get("scale_factor_temporal", 4)
        space: int = vae.get("scale_factor_spatial", 8)
        family = reach.wan(
            rotary=transformer.get("rope_max_seq_len", 1024),
            patch_time=patch[0],
            size_multiple=space * patch[1],
            frame_step=time,
            two_experts=index.get("boundary_ratio") is not None,
            either=bool(index.get("expand_timesteps")),
        )
        card = {**family, **own}
        rows = _share("height", self._given("height", card), space * patch[1])
        columns = _share("width", self._given("width", card), space * patch[2])
        frames = self._given("num_frames", card)
        if frames < 1 or (frames - 1) % time:
            below = max(1, frames - (frames - 1) % time)
            near = f"{below} or {below + time}"
            raise RequestError("num_frames", frames, f"must be {time}k+1, such as {near}")
        return ((frames - 1) // time + 1) // patch[0] * rows * columns

    def _of_image(self, vae: dict[str, Any], own: Mapping[str, int]) -> int:
        """Latent pixels, patched two by two as FLUX.2 has it."""
        pixels: int = 2 ** len(vae["block_out_channels"])
        if self.num_frames not in (None, 1):
            raise RequestError("num_frames", self.num_frames, "must be 1: the model makes images")
        card = {**reach.FLUX2, **own}
        rows, columns = (
            _share(field, self._given(field, card), pixels) for field in ("height", "width")
        )
        return rows * columns

    def _given(self, field: str, card: Mapping[str, int]) -> int:
        """The value, or the card's, held against the card's limit."""
        asked: int | None = getattr(self, field)
        value, most = card[field] if asked is None else asked, card[f"max_{field}"]
        if value > most:
            raise RequestError(field, value, f"must be at most {most}")
        return value


def _share(field: str, value: int, multiple: int) -> int:
    if value < multiple or value % multiple:
        below = max(multiple, value // multiple * multiple)
        near = f"{below} or {below + multiple}"
        raise RequestError(field, value, f"must be a multiple of {multiple}, such as {near}")
    return value // multiple
