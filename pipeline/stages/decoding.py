"""Decoding: latent to pixels, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import torch
from typing_extensions import override

from pipeline.parallel.ranks import Ranks
from pipeline.stages.control import NotFinite, Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State


class Together:
    """Chunks that every rank must help to decode; rank 0 alone gets their pixels."""

    def __init__(self, chunks: Iterator[torch.Tensor]) -> None:
        self.chunks = chunks


Decode = Callable[[State], Iterator[torch.Tensor] | Together]
"""A family's decoder: float [1, 3, frames, height, width] in -1..1, chunk by chunk in time."""


class Decoding(Stage):
    """Opens the stream of frames on rank 0. The others help, where that is asked for, or return."""

    name = "decoding"
    inputs = ("request", "latent")
    outputs = ("frames",)

    def __init__(self, decode: Decode, ranks: Ranks) -> None:
        self._decode = decode
        self._ranks = ranks

    @override
    def run(self, state: State, steps: Steps) -> None:
        decoded = self._decode(state)
        if self._ranks.rank == 0:
            if isinstance(decoded, Together):
                chunks: _Led | Generator[torch.Tensor] = _Led(decoded, self._ranks)
            else:
                chunks = self._alone(decoded)
            state.frames = Frames(chunks, state.request.num_frames, steps)
        elif isinstance(decoded, Together):
            _follow(decoded, self._ranks)

    def _alone(self, chunks: Iterator[torch.Tensor]) -> Generator[torch.Tensor]:
        with self._ranks.platform.alone():
            yield from chunks


class Frames(Iterator[torch.Tensor]):
    """uint8 [frames of a chunk, height, width, 3] on the CPU, decoded as they are taken, on rank 0.

    Must be closed: other ranks may be waiting for the next chunk.
    """

    def __init__(self, chunks: _Led | Generator[torch.Tensor], total: int, steps: Steps) -> None:
        """Take `total` frames from `chunks`, telling `steps` of each chunk that is used."""
        self._chunks = chunks
        self._total = total
        self._steps = steps
        self._taken = 0
        steps.done(Decoding.name, 0, total)

    @override
    def __next__(self) -> torch.Tensor:
        if self._taken:
            self._steps.done(Decoding.name, self._taken, self._total)
            self._steps.go_on_alone()
        chunk = next(self._chunks)
        self._taken += chunk.shape[2]
        return _pixels(chunk)

    def close(self) -> None:
        """Take no more."""
        self._chunks.close()


class _Led(Iterator[torch.Tensor]):
    """Rank 0's side: before each chunk it tells the others to help, at the end to go."""

    def __init__(self, together: Together, ranks: Ranks) -> None:
        self._chunks = together.chunks
        self._ranks = ranks
        self._others_wait = True

    @override
    def __next__(self) -> torch.Tensor:
        # Whatever fails from here on is told the others in another way: nobody waits for word then.
        self._others_wait = False
        self._ranks.agree(True)
        chunk = next(self._chunks)
        self._others_wait = True
        return chunk

    def close(self) -> None:
        """Let the others go, if they wait."""
        if self._others_wait:
            self._others_wait = False
            self._ranks.agree(False)


def _follow(together: Together, ranks: Ranks) -> None:
    """The others' side, which ends as rank 0's does."""
    while ranks.agree(False):
        if next(together.chunks, None) is None:
            return


def _pixels(chunk: torch.Tensor) -> torch.Tensor:
    """Turn float [1, 3, F, H, W] in -1..1 into uint8 [F, H, W, 3] on the CPU.

    Raises:
        NotFinite: the decoder made NaN or infinity of a finite latent.
    """
    if not torch.isfinite(chunk).all():
        raise NotFinite("the decoded frames are not finite: the VAE's weights may be damaged")
    scaled = (chunk[0] / 2 + 0.5).clamp(0, 1).mul(255).round()
    return scaled.to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu()
