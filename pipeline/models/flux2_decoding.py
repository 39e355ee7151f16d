"""FLUX.2's latent to pixels: whole on one rank, or in tiles on all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch

from pipeline.parallel.ranks import Ranks
from pipeline.parallel.tiles import collect, owners
from pipeline.stages.decoding import Together
from pipeline.stages.state import State


def decoder(
    pipe: Any, tiling: Literal["on", "off"] | None, ranks: Ranks
) -> Callable[[State], Iterator[torch.Tensor] | Together]:
    """How a state's latent is decoded: in tiles if `tiling` is on and the image is larger than one."""
    vae = pipe.vae

    def frames(state: State) -> Iterator[torch.Tensor] | Together:
        latent = state.latent
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latent)
        deviation = (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt()
        hidden = pipe._unpatchify_latents(latent * deviation.to(latent) + mean).to(vae.dtype)
        if tiling == "on" and max(hidden.shape[2:]) > vae.tile_latent_min_size:
            return Together(decode_tiles(vae, hidden, ranks))
        return decode(vae, hidden)

    return frames


def decode(vae: Any, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
    """Decode a latent [1, C, H, W]; yields one float [1, 3, 1, height, width] in -1..1."""
    yield vae._decode(hidden, return_dict=False)[0].float()[:, :, None]


def decode_tiles(vae: Any, hidden: torch.Tensor, ranks: Ranks) -> Iterator[torch.Tensor]:
    """The same as diffusers' `tiled_decode`, in tiles that the ranks share. Every rank must take it.

    Yields:
        As `decode`, on rank 0; an empty tensor on the others.
    """
    size = vae.tile_latent_min_size
    stride = int(size * (1 - vae.tile_overlap_factor))
    places = [
        (top, left)
        for top in range(0, hidden.shape[2], stride)
        for left in range(0, hidden.shape[3], stride)
    ]
    tiles = [hidden[..., top : top + size, left : left + size] for top, left in places]
    by_tile = owners([tile[0, 0].numel() for tile in tiles], ranks.world_size)
    own = {
        number: _decoded(vae, tiles[number])
        for number, rank in enumerate(by_tile)
        if rank == ranks.rank
    }
    ratio = 2 ** (len(vae.config.block_out_channels) - 1)
    shapes = [
        (1, vae.config.out_channels, tile.shape[2] * ratio, tile.shape[3] * ratio) for tile in tiles
    ]
    arrived = collect(own, shapes, by_tile, ranks, hidden)
    columns = sum(top == 0 for top, _ in places)
    yield _blend(vae, arrived, columns).float()[:, :, None] if arrived else hidden.new_empty(0)


def _decoded(vae: Any, tile: torch.Tensor) -> torch.Tensor:
    if vae.config.use_post_quant_conv:
        tile = vae.post_quant_conv(tile)
    decoded: torch.Tensor = vae.decoder(tile)
    return decoded


def _blend(vae: Any, tiles: list[torch.Tensor], columns: int) -> torch.Tensor:
    """Lay decoded tiles over each other, as diffusers' `tiled_decode` does."""
    over = int(vae.tile_sample_min_size * vae.tile_overlap_factor)
    kept = vae.tile_sample_min_size - over
    rows: list[list[torch.Tensor]] = []
    for number, tile in enumerate(tiles):
        if number >= columns:
            vae.blend_v(tiles[number - columns], tile, over)
        if number % columns:
            vae.blend_h(tiles[number - 1], tile, over)
        else:
            rows.append([])
        rows[-1].append(tile[..., :kept, :kept])
    return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)
