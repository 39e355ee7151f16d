"""Wan's latent to pixels: whole frames on one rank, or tiles of them on all; always chunk by chunk.

Time is never split over ranks: the VAE is causal, and what it remembers goes from chunk to chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify

from pipeline.models.wan_denoising import FirstFrame
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.tiles import collect, owners
from pipeline.stages.decoding import Together
from pipeline.stages.state import State

_PIXELS_AT_ONCE = 2**20
"""How much is decoded at once. Small frames one latent frame at a time are slow (128x128 on a CPU: 3
to 4 times); 480x832 has more than this in one, which is where memory begins to matter."""

_PIXELS_WHOLE = 832 * 480
"""The largest frame that is decoded whole unless told otherwise."""


def decoder(
    vae: Any, first: FirstFrame | None, tiling: Literal["on", "off"] | None, ranks: Ranks
) -> Callable[[State], Iterator[torch.Tensor] | Together]:
    """How a state's latent is decoded: whole or in tiles by `tiling` and the frame's size alone.

    A tile sees less around it than a whole frame, so the two differ; ranks must not choose.
    """

    def frames(state: State) -> Iterator[torch.Tensor] | Together:
        latent = state.latent if first is None else first.keep(state)
        pixels = math.prod(latent.shape[3:]) * vae.spatial_compression_ratio**2
        large = pixels > _PIXELS_WHOLE if tiling is None else tiling == "on"
        if large and len(corners(vae, latent)) > 1:
            area = vae.tile_sample_min_height * vae.tile_sample_min_width
            return Together(decode_tiles(vae, latent, _at_once(vae, area), ranks))
        return decode(vae, latent, _at_once(vae, pixels))

    return frames


def _at_once(vae: Any, pixels: int) -> int:
    """Latent frames of `pixels` each that are decoded at once."""
    frames: int = vae.config.scale_factor_temporal
    return max(1, _PIXELS_AT_ONCE // (frames * pixels))


def decode(vae: Any, latent: torch.Tensor, at_once: int) -> Iterator[torch.Tensor]:
    """Decode a normalised latent [1, C, F, H, W]: its first frame, then `at_once` frames at a time.

    One at a time equals `vae.decode` bit for bit, several to rounding (5e-6): the causal
    convolutions' last frames go along from chunk to chunk in a memory, as they do there.

    Yields:
        float [1, 3, frames, height, width] in -1..1: 1 frame first, then 4 for each latent frame.
    """
    hidden, memory = _denormalised(vae, latent), _memory(vae)
    for start, stop in _chunks(hidden, at_once):
        yield _pixels(vae, _decode(vae, hidden[:, :, start:stop], memory, start))


def decode_tiles(
    vae: Any, latent: torch.Tensor, at_once: int, ranks: Ranks
) -> Iterator[torch.Tensor]:
    """The same in overlapping tiles that the ranks share. Every rank must take every chunk.

    Equals diffusers' `tiled_decode` as `decode` equals `vae.decode`, on any number of ranks.

    Yields:
        As `decode`, on rank 0; empty tensors on the others.
    """
    hidden = _denormalised(vae, latent)
    ratio = vae.spatial_compression_ratio
    tall, wide = vae.tile_sample_min_height // ratio, vae.tile_sample_min_width // ratio
    places = corners(vae, latent)
    tiles = [hidden[..., top : top + tall, left : left + wide] for top, left in places]
    by_tile = owners([math.prod(tile.shape[3:]) for tile in tiles], ranks.world_size)
    memories = {number: _memory(vae) for number, rank in enumerate(by_tile) if rank == ranks.rank}
    for start, stop in _chunks(hidden, at_once):
        own = {
            number: _decode(vae, tiles[number][:, :, start:stop], memory, start)
            for number, memory in memories.items()
        }
        shapes = [_decoded_shape(vae, tile[:, :, start:stop], start) for tile in tiles]
        arrived = collect(own, shapes, by_tile, ranks, hidden)
        yield _pixels(vae, _blend(vae, arrived, places, hidden)) if arrived else hidden.new_empty(0)


def corners(vae: Any, latent: torch.Tensor) -> list[tuple[int, int]]:
    """Top and left of each tile in latent pixels, row by row, where diffusers has them."""
    ratio = vae.spatial_compression_ratio
    if (
        latent.shape[3] <= vae.tile_sample_min_height // ratio
        and latent.shape[4] <= vae.tile_sample_min_width // ratio
    ):
        return [(0, 0)]
    down, across = vae.tile_sample_stride_height // ratio, vae.tile_sample_stride_width // ratio
    return [
        (top, left)
        for top in range(0, latent.shape[3], down)
        for left in range(0, latent.shape[4], across)
    ]


def _blend(
    vae: Any, tiles: list[torch.Tensor], places: list[tuple[int, int]], hidden: torch.Tensor
) -> torch.Tensor:
    """Lay decoded tiles over each other, as diffusers' `tiled_decode` does."""
    patch = vae.config.patch_size or 1
    down, across = vae.tile_sample_stride_height // patch, vae.tile_sample_stride_width // patch
    over_v = vae.tile_sample_min_height // patch - down
    over_h = vae.tile_sample_min_width // patch - across
    columns = sum(top == 0 for top, _ in places)
    rows: list[list[torch.Tensor]] = []
    for number, tile in enumerate(tiles):
        if number >= columns:
            vae.blend_v(tiles[number - columns], tile, over_v)
        if number % columns:
            vae.blend_h(tiles[number - 1], tile, over_h)
        if number % columns == 0:
            rows.append([])
        rows[-1].append(tile[..., :down, :across])
    ratio = vae.spatial_compression_ratio // patch
    joined = torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)
    return joined[..., : hidden.shape[3] * ratio, : hidden.shape[4] * ratio]


def _denormalised(vae: Any, latent: torch.Tensor) -> torch.Tensor:
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latent.device, vae.dtype)
    scale = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latent.device, vae.dtype)
    hidden: torch.Tensor = vae.post_quant_conv(latent.to(vae.dtype) / scale + mean)
    return hidden


def _memory(vae: Any) -> list[torch.Tensor | None]:
    """One place for each causal convolution."""
    return [None] * sum(isinstance(module, WanCausalConv3d) for module in vae.decoder.modules())


def _chunks(hidden: torch.Tensor, at_once: int) -> Iterator[tuple[int, int]]:
    """The first latent frame alone, then `at_once` at a time."""
    yield 0, 1
    for start in range(1, hidden.shape[2], at_once):
        yield start, min(start + at_once, hidden.shape[2])


def _decode(
    vae: Any, part: torch.Tensor, memory: list[torch.Tensor | None], start: int
) -> torch.Tensor:
    decoded: torch.Tensor = vae.decoder(
        part, feat_cache=memory, feat_idx=[0], first_chunk=start == 0
    )
    return decoded


def _decoded_shape(vae: Any, part: torch.Tensor, start: int) -> tuple[int, ...]:
    """What `_decode` makes of `part`; pixels still in patches."""
    patch = vae.config.patch_size or 1
    ratio = vae.spatial_compression_ratio // patch
    frames = part.shape[2] * vae.config.scale_factor_temporal if start else 1
    return (
        1,
        vae.config.out_channels,
        frames,
        part.shape[3] * ratio,
        part.shape[4] * ratio,
    )


def _pixels(vae: Any, decoded: torch.Tensor) -> torch.Tensor:
    if vae.config.patch_size is not None:
        decoded = unpatchify(decoded, patch_size=vae.config.patch_size)
    return torch.clamp(decoded, min=-1.0, max=1.0)
