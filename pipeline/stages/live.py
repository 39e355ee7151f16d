"""Live previews: what a running denoising will show, in small and nearly for nothing, on rank 0."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.media.output import OutputError, whole, writing
from pipeline.stages.decoding import Decode, Together
from pipeline.stages.state import State

log = logging.getLogger(__name__)

_TILES, _TILE = 8, 4
"""Sides of the picture that the colours are learned from, in tiles, and of a tile in latent pixels."""
_RIDGE = 0.1
"""Keeps the fit sane where a latent has more channels than the picture has tiles."""
_LONGEST = 320
"""Pixels of a preview's longer side."""

Picture = Callable[[], NDArray[np.uint8] | None]
"""Makes a small picture, uint8 [height, width, 3], when it is wanted; None: it cannot."""


class Live:
    """Writes previews of one output, as often as is wanted."""

    def __init__(self, file: Path, every_s: float) -> None:
        """Write `file`, a WebP, whole each time and at most every `every_s` seconds."""
        self._file = file
        self._every_s = every_s
        self._last = -every_s
        self._fresh = False

    def show(self, picture: Picture) -> None:
        """Write `picture()` if one is due. That it cannot be written is nothing to fail for."""
        if time.monotonic() - self._last < self._every_s:
            return
        pixels = picture()
        if pixels is not None:
            try:
                with whole(self._file) as part, writing(self._file):
                    _enlarged(pixels).save(part, format="WEBP", quality=70, method=0)
                self._fresh = True
            except OutputError as error:
                log.warning("no preview: %s", error)
        self._last = time.monotonic()

    def take(self) -> str | None:
        """The file's name, once after each time that it was written."""
        fresh, self._fresh = self._fresh, False
        return self._file.name if fresh else None


class Colours:
    """A latent pixel's colour as a linear function of its channels, learned from the family's decoder.

    One small picture of random tiles is decoded when the first preview is wanted, and never again: it
    costs what a frame of 256x256 does (for a latent pixel of 8), a preview only a product of matrices.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._weights: torch.Tensor | None = None
        """[C + 1, 3] to colours in -1..1, the last row the constant."""
        self._learned = False

    def paint(
        self, state: State, noise: torch.Tensor, sigma: torch.Tensor | float
    ) -> NDArray[np.uint8] | None:
        """What the latent's middle frame comes to, a pixel for each of its own.

        Args:
            state: the generation's, at a noise level of `sigma`.
            noise: what is predicted of it, of the latent's shape (flow matching: noise less image).
            sigma: from 1, all noise, to 0.

        Returns:
            uint8 [H, W, 3]; None: the decoder is not for one rank alone.
        """
        if not self._learned:
            self._weights, self._learned = self._learn(state), True
        if self._weights is None:
            return None
        frame = (_middle(state.latent) - sigma * _middle(noise)).float()
        colours = torch.einsum("chw,ck->hwk", frame, self._weights[:-1]) + self._weights[-1]
        scaled: NDArray[np.uint8] = (
            (colours / 2 + 0.5)
            .nan_to_num()
            .clamp(0, 1)
            .mul(255)
            .round()
            .to(torch.uint8)
            .cpu()
            .numpy()
        )
        return scaled

    def _learn(self, state: State) -> torch.Tensor | None:
        channels = state.latent.shape[1]
        generator = torch.Generator().manual_seed(0)
        seen = torch.randn(_TILES * _TILES, channels, generator=generator)
        tiles = seen.T.reshape(channels, _TILES, _TILES)
        picture = tiles.repeat_interleave(_TILE, 1).repeat_interleave(_TILE, 2)[None]
        if state.latent.dim() == 5:
            picture = picture[:, :, None]
        chunks = self._decode(_with(state, picture.to(state.latent)))
        if isinstance(chunks, Together):
            return None
        pixels = next(chunks)[0, :, 0].float().cpu()
        side = pixels.shape[-1] // _TILES
        rim = side // 4  # what lies beside a tile shines in
        tiled = pixels.reshape(3, _TILES, side, _TILES, side)
        inner = tiled[:, :, rim : side - rim, :, rim : side - rim]
        colours = inner.mean((2, 4)).reshape(3, -1).T
        known = torch.cat([seen, torch.ones(len(seen), 1)], dim=1)
        damped = known.T @ known + _RIDGE * torch.eye(channels + 1)
        weights: torch.Tensor = torch.linalg.solve(damped, known.T @ colours)
        return weights.to(state.latent.device)


def _middle(latent: torch.Tensor) -> torch.Tensor:
    """[C, H, W] of a latent of either kind."""
    return latent[0] if latent.dim() == 4 else latent[0, :, latent.shape[2] // 2]


def _with(state: State, latent: torch.Tensor) -> State:
    """The same request with another latent, and without images."""
    other = State(state.request, state.inputs)
    other.latent = latent
    return other


def _enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    """A latent pixel is eight or sixteen of the output: smooth between them."""
    image = Image.fromarray(pixels)
    factor = max(1, _LONGEST // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
