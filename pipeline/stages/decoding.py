"""Decoding: latent to pixels, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from typing_extensions import override

from pipeline.parallel.ranks import Ranks
from pipeline.stages.control import NotFinite, Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State


class Decoding(Stage):
    """Opens the stream of frames on rank 0. The others have nothing to do but to wait for it."""

    name = "decoding"
    inputs = ("request", "latent")
    outputs = ("frames",)

    def __init__(self, decode: Callable[[State], Iterator[torch.Tensor]], ranks: Ranks) -> None:
        """`decode` gives float [1, 3, frames, height, width] in -1..1, chunk by chunk."""
        self._decode = decode
        self._ranks = ranks

    @override
    def run(self, state: State, steps: Steps) -> None:
        state.frames = self._frames(state, steps) if self._ranks.rank == 0 else iter(())

    def _frames(self, state: State, steps: Steps) -> Iterator[torch.Tensor]:
        done, total = 0, state.request.num_frames
        steps.done(self.name, done, total)
        for chunk in self._decode(state):
            yield _pixels(chunk)
            done += chunk.shape[2]
            steps.done(self.name, done, total)
            steps.go_on_alone()


def _pixels(chunk: torch.Tensor) -> torch.Tensor:
    """Turn float [1, 3, F, H, W] in -1..1 into uint8 [F, H, W, 3] on the CPU.

    Raises:
        NotFinite: the decoder made NaN or infinity of a finite latent.
    """
    if not torch.isfinite(chunk).all():
        raise NotFinite("the decoded frames are not finite: the VAE's weights may be damaged")
    scaled = (chunk[0] / 2 + 0.5).clamp(0, 1).mul(255).round()
    return scaled.to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu()
